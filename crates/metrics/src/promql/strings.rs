//! String literals: what stands between the quotes, by Go's rules.

/// The bytes of a literal whose quotes were `quote_char` (`"`, `'` or a backtick, which knows no escapes).
pub(super) fn unquote(inner: &str, quote_char: char) -> Result<Vec<u8>, String> {
    if quote_char == '`' {
        return Ok(inner.replace('\r', "").into_bytes());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            unescape(&mut chars, quote_char, &mut bytes)?;
        } else {
            push_char(c, &mut bytes);
        }
    }
    Ok(bytes)
}

fn push_char(c: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What follows a backslash.
fn unescape(chars: &mut std::str::Chars<'_>, quote_char: char, bytes: &mut Vec<u8>) -> Result<(), String> {
    let unknown = |c: char| format!("unknown escape sequence {c:?}");
    let c = chars.next().ok_or("escape sequence not terminated")?;
    match c {
        'a' => bytes.push(7),
        'b' => bytes.push(8),
        'f' => bytes.push(12),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        'v' => bytes.push(11),
        '\\' => bytes.push(b'\\'),
        c if c == quote_char => push_char(c, bytes),
        '0'..='7' => {
            let text: String = [c].into_iter().chain(chars.by_ref().take(2)).collect();
            bytes.push(byte(&text, 3, 8)?);
        }
        'x' => {
            let text: String = chars.by_ref().take(2).collect();
            bytes.push(byte(&text, 2, 16)?);
        }
        'u' | 'U' => {
            let length = if c == 'u' { 4 } else { 8 };
            let text: String = chars.by_ref().take(length).collect();
            let code = number(&text, length, 16)?;
            push_char(char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?, bytes);
        }
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn number(text: &str, length: usize, radix: u32) -> Result<u32, String> {
    let digits = text.len() == length && text.chars().all(|c| c.is_digit(radix));
    let number = digits.then(|| u32::from_str_radix(text, radix).ok()).flatten();
    number.ok_or_else(|| format!("illegal character in escape sequence \"{text}\""))
}

fn byte(text: &str, length: usize, radix: u32) -> Result<u8, String> {
    u8::try_from(number(text, length, radix)?).map_err(|_| format!("escape sequence \"{text}\" is no byte"))
}
