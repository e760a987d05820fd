//! The parser's part after an expression: `[range]`, `[range:step]`, `@`, `offset`, `anchored`, `smoothed`, and arithmetic
//! over durations.

use super::ast::*;
use super::error::ParseError;
use super::lexer::Token;
use super::parser::Parser;

impl Parser<'_> {
    /// `[5m]` or `[5m:10s]` after `expr`.
    pub(super) fn window(&mut self, expr: Expr) -> Result<Expr, ParseError> {
        let start = expr.span();
        self.advance();
        if matches!(self.peek(), Token::Sign("]")) {
            return Err(self.error(self.span(), "missing duration in range selector"));
        }
        let range = self.duration(0, &RANGE)?;
        self.check_positive(&range)?;
        if self.eat(":") {
            let step =
                if matches!(self.peek(), Token::Sign("]")) { None } else { Some(self.duration(0, &STEP)?) };
            if let Some(step) = &step {
                self.check_positive(step)?;
            }
            self.expect("]", "subquery selector")?;
            let span = start.to(self.last_span());
            let shift = TimeShift::default();
            return Ok(Expr::Subquery(Box::new(SubqueryExpr { expr, range, step, shift, span })));
        }
        if !self.eat("]") {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        let span = start.to(self.last_span());
        let Expr::Vector(vector) = expr else {
            return Err(self.error(start, "ranges only allowed for vector selectors"));
        };
        if vector.shift.offset.is_some() {
            return Err(self.error(span, "no offset modifiers allowed before range"));
        }
        if vector.shift.at.is_some() {
            return Err(self.error(span, "no @ modifiers allowed before range"));
        }
        Ok(Expr::Matrix(Box::new(MatrixSelector { vector, range, span })))
    }

    fn check_positive(&self, duration: &DurationExpr) -> Result<(), ParseError> {
        match duration {
            DurationExpr::Number(number) if number.value <= 0.0 => {
                Err(self.error(number.span, "duration must be greater than 0"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn at_modifier(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        self.advance();
        let at = self.at_time()?;
        let end = self.last_span();
        let span = expr.span().to(end);
        let Some(shift) = shift_of(&mut expr, end) else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error(span, message));
        };
        if shift.at.replace(at).is_some() {
            return Err(self.error(span, "@ <timestamp> may not be set multiple times"));
        }
        Ok(expr)
    }

    fn at_time(&mut self) -> Result<At, ParseError> {
        for (keyword, at) in [("start", At::Start), ("end", At::End)] {
            if self.is_keyword(keyword) && self.next_is("(") {
                self.advance();
                self.advance();
                self.expect(")", "@")?;
                return Ok(at);
            }
        }
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        let Token::Number(value, _) = *self.peek() else { return Err(self.unexpected("@", "timestamp")) };
        let ms = (if negative { -value } else { value } * 1_000.0).round();
        // Far outside every clock; also refuses NaN and infinities.
        if ms.is_nan() || ms.abs() >= 9.2e15 {
            return Err(self.error(self.span(), format!("timestamp out of bounds for @ modifier: {value}")));
        }
        self.advance();
        Ok(At::Time(ms as i64))
    }

    pub(super) fn offset_modifier(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        self.advance();
        // Arithmetic goes on after parentheses, and only there: `x offset 1m + 1` is a sum, `x offset (1m) + 1` an offset. Several
        // signs make it arithmetic too.
        let offset = match self.peek() {
            Token::Sign("(") => self.duration(0, &OFFSET)?,
            Token::Sign("-" | "+") if self.next_is("-") || self.next_is("+") => self.duration(0, &OFFSET)?,
            _ => self.with_sign(&OFFSET, |parser| parser.duration_primary(&OFFSET))?,
        };
        let end = self.last_span();
        let span = expr.span().to(end);
        let Some(shift) = shift_of(&mut expr, end) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error(span, message));
        };
        if shift.offset.replace(offset).is_some() {
            return Err(self.error(span, "offset may not be set multiple times"));
        }
        Ok(expr)
    }

    /// `anchored` or `smoothed` after `expr`.
    pub(super) fn extend(&mut self, mut expr: Expr, extension: Extension) -> Result<Expr, ParseError> {
        let keyword = extension.keyword();
        let wrong = |parser: &Self, expr: &Expr, why: &str| Err(parser.error(expr.span(), why));
        self.advance();
        let selector = match &mut expr {
            Expr::Vector(selector) => selector,
            Expr::Matrix(matrix) => &mut matrix.vector,
            Expr::Subquery(_) => {
                return wrong(self, &expr, &format!("{keyword} modifier is not supported for subqueries"));
            }
            _ => return wrong(self, &expr, &format!("{keyword} modifier not implemented")),
        };
        if selector.extension.replace(extension).is_some_and(|other| other != extension) {
            return wrong(self, &expr, "anchored and smoothed modifiers cannot be used together");
        }
        Ok(expr)
    }

    /// Arithmetic over durations, as allowed between brackets and parentheses.
    fn duration(&mut self, precedence_min: u8, place: &Place) -> Result<DurationExpr, ParseError> {
        self.nested(|parser| {
            let mut lhs = parser.signed_duration(place)?;
            // A chain of operators makes a tree as deep as it is long.
            for length in 0.. {
                let op = match parser.peek() {
                    Token::Sign("+") => BinaryOp::Add,
                    Token::Sign("-") => BinaryOp::Sub,
                    Token::Sign("*") => BinaryOp::Mul,
                    Token::Sign("/") => BinaryOp::Div,
                    Token::Sign("%") => BinaryOp::Mod,
                    Token::Sign("^") => BinaryOp::Pow,
                    _ => return Ok(lhs),
                };
                if op.precedence() < precedence_min {
                    return Ok(lhs);
                }
                parser.check_chain(length, "operators")?;
                parser.advance();
                let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
                let rhs = parser.duration(next, place)?;
                lhs = DurationExpr::Binary(op, Box::new(lhs), Box::new(rhs));
            }
            Ok(lhs)
        })
    }

    /// Inside brackets and parentheses a sign binds as strongly as `*`: `-2 ^ 2` is -(2 ^ 2).
    fn signed_duration(&mut self, place: &Place) -> Result<DurationExpr, ParseError> {
        self.with_sign(place, |parser| parser.duration(BinaryOp::Mul.precedence() + 1, place))
    }

    fn with_sign(
        &mut self,
        place: &Place,
        operand: impl FnOnce(&mut Self) -> Result<DurationExpr, ParseError>,
    ) -> Result<DurationExpr, ParseError> {
        let start = self.span();
        let negative = match self.peek() {
            Token::Sign("-") => true,
            Token::Sign("+") => false,
            _ => return self.duration_primary(place),
        };
        self.advance();
        let operand = operand(self)?;
        let span = start.to(operand.span());
        Ok(match operand {
            DurationExpr::Number(number) => {
                let value = if negative { -number.value } else { number.value };
                DurationExpr::Number(NumberLiteral { value, span, ..number })
            }
            operand => DurationExpr::Unary(negative, Box::new(operand), span),
        })
    }

    fn expect_in(&mut self, place: &Place, sign: &str) -> Result<(), ParseError> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(place.context, place.expected)) }
    }

    fn duration_primary(&mut self, place: &Place) -> Result<DurationExpr, ParseError> {
        let span = self.span();
        if let Token::Number(value, is_duration) = *self.peek() {
            // About 290 years, the longest that Go's durations hold.
            if value.abs() >= 9.2e9 {
                return Err(self.error(span, "duration out of range"));
            }
            self.advance();
            return Ok(DurationExpr::Number(NumberLiteral { value, is_duration, span }));
        }
        if self.eat("(") {
            let inner = self.duration(0, place)?;
            self.expect_in(place, ")")?;
            return Ok(DurationExpr::Paren(Box::new(inner), span.to(self.last_span())));
        }
        if !self.next_is("(") {
            return Err(self.unexpected(place.context, place.expected));
        }
        let name = self.text().to_ascii_lowercase();
        match name.as_str() {
            "step" | "range" => {
                self.advance();
                self.advance();
                self.expect_in(place, ")")?;
                let span = span.to(self.last_span());
                Ok(if name == "step" { DurationExpr::Step(span) } else { DurationExpr::Range(span) })
            }
            "min_of" | "max_of" => {
                self.advance();
                self.advance();
                let lhs = self.duration(0, place)?;
                self.expect_in(place, ",")?;
                let rhs = self.duration(0, place)?;
                self.expect_in(place, ")")?;
                let span = span.to(self.last_span());
                Ok(DurationExpr::Extreme(name == "max_of", Box::new(lhs), Box::new(rhs), span))
            }
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }
}

/// Where a duration stands, and what may stand there.
struct Place {
    context: &'static str,
    expected: &'static str,
}

const RANGE: Place =
    Place { context: "subquery or range selector", expected: "number, duration, step(), or range()" };
const STEP: Place =
    Place { context: "subquery selector", expected: "number, duration, step(), range(), or \"]\"" };
const OFFSET: Place = Place { context: "offset", expected: "number, duration, step(), or range()" };

/// Where `@` and `offset` of an expression go; its span grows to include them.
fn shift_of(expr: &mut Expr, end: Span) -> Option<&mut TimeShift> {
    match expr {
        Expr::Vector(selector) => {
            selector.span.end = end.end;
            Some(&mut selector.shift)
        }
        Expr::Matrix(selector) => {
            selector.span.end = end.end;
            Some(&mut selector.vector.shift)
        }
        Expr::Subquery(subquery) => {
            subquery.span.end = end.end;
            Some(&mut subquery.shift)
        }
        _ => None,
    }
}
