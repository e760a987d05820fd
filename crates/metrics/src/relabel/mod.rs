//! Relabeling: rules that rewrite, keep or drop targets and series by their labels.
//!
//! Actions, defaults, messages and order are Prometheus' (`model/relabel`). Rules are checked and compiled once
//! ([`Rule::new`]); whatever was accepted can be applied to any labels.

use std::fmt;

use md5::{Digest, Md5};
use regex::Regex;

use crate::exposition::VALUE_BYTES_MAX;
use crate::labels::Labels;
use crate::matcher::anchored_regex;
use crate::text::quote;

/// What Prometheus joins the values of source labels with unless told otherwise.
const SEPARATOR_DEFAULT: &str = ";";
/// Matches everything.
const REGEX_DEFAULT: &str = "(.*)";
/// All that was matched.
const REPLACEMENT_DEFAULT: &str = "$1";
/// Bytes of the joined values that a rule looks at: source labels may be named again and again. A rule with more does nothing.
const JOINED_BYTES_MAX: usize = 16 * VALUE_BYTES_MAX;
/// Bytes that a rule's templates may become before they are looked at. A rule with more does nothing.
const EXPANDED_BYTES_MAX: usize = 16 * VALUE_BYTES_MAX;
/// Labels that a series may have after `labelmap`, which can double them with each rule.
const LABELS_MAX: usize = 512;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes the replacement to the target label, if the expression matches.
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops where the joined values are not the target label's.
    KeepEqual,
    /// Drops where the joined values are the target label's.
    DropEqual,
    /// Writes a hash of the joined values, modulo a number.
    HashMod,
    /// Copies labels whose names match to other names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Writes the joined values in lower case.
    Lowercase,
    /// Writes the joined values in upper case.
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ACTIONS.iter().find(|(_, action)| action == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A rule as it is written; what is `None` has Prometheus' default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleText {
    /// The labels whose values are joined and matched.
    pub source_labels: Vec<String>,
    /// What the values are joined with; `;` by default.
    pub separator: Option<String>,
    /// The label to write.
    pub target_label: Option<String>,
    /// The expression to match, always the whole text; `(.*)` by default.
    pub regex: Option<String>,
    /// The modulus of `hashmod`.
    pub modulus: Option<u64>,
    /// What to write; `$1` by default.
    pub replacement: Option<String>,
    /// The action, in any case; `replace` by default.
    pub action: Option<String>,
}

/// A field of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleField {
    /// `source_labels`
    SourceLabels,
    /// `separator`
    Separator,
    /// `target_label`
    TargetLabel,
    /// `regex`
    Regex,
    /// `modulus`
    Modulus,
    /// `replacement`
    Replacement,
    /// `action`
    Action,
}

/// One thing that is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// Where it is.
    pub field: RuleField,
    /// Why that is wrong, in Prometheus' words.
    pub message: String,
}

/// Everything that is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError(pub Vec<RuleProblem>);

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut messages: Vec<&str> = self.0.iter().map(|problem| problem.message.as_str()).collect();
        messages.dedup();
        f.write_str(&messages.join("; "))
    }
}

impl std::error::Error for RuleError {}

/// A rule that was checked and compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    written: RuleText,
    action: Action,
    separator: String,
    target_label: String,
    regex: Regex,
    replacement: String,
    modulus: u64,
}

/// Rules are the same if they are written the same.
impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.written == other.written
    }
}

impl Rule {
    /// Checks and compiles a rule.
    ///
    /// # Errors
    /// The action is unknown, the expression is wrong, or fields are missing or set that the action has no use for:
    /// all of it.
    pub fn new(written: RuleText) -> Result<Rule, RuleError> {
        let mut problems = Vec::new();
        let action = read_action(written.action.as_deref());
        match &action {
            Ok(action) => check(&written, *action, &mut problems),
            Err(message) => problems.push(RuleProblem { field: RuleField::Action, message: message.clone() }),
        }
        let regex = anchored_regex(written.regex.as_deref().unwrap_or(REGEX_DEFAULT));
        if let Err(error) = &regex {
            problems.push(RuleProblem { field: RuleField::Regex, message: error.to_string() });
        }
        let (Ok(action), Ok(regex), true) = (action, regex, problems.is_empty()) else {
            return Err(RuleError(problems));
        };
        let text =
            |field: &Option<String>, default: &str| field.clone().unwrap_or_else(|| default.to_owned());
        Ok(Rule {
            action,
            separator: text(&written.separator, SEPARATOR_DEFAULT),
            target_label: text(&written.target_label, ""),
            regex,
            replacement: text(&written.replacement, REPLACEMENT_DEFAULT),
            modulus: written.modulus.unwrap_or(0),
            written,
        })
    }

    /// The rule with its defaults written out.
    pub fn written_out(&self) -> RuleText {
        RuleText {
            source_labels: self.written.source_labels.clone(),
            separator: Some(self.separator.clone()),
            target_label: self.written.target_label.clone(),
            regex: Some(self.written.regex.clone().unwrap_or_else(|| REGEX_DEFAULT.to_owned())),
            modulus: self.written.modulus,
            replacement: Some(self.replacement.clone()),
            action: Some(self.action.to_string()),
        }
    }

    /// Applies the rule; false: the target or series is dropped.
    fn apply(&self, labels: &mut Editor) -> bool {
        let values: Vec<&str> = self.written.source_labels.iter().map(|name| labels.get(name)).collect();
        let length: usize = values.iter().map(|value| value.len() + self.separator.len()).sum();
        if length > JOINED_BYTES_MAX {
            return true;
        }
        let joined = values.join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return labels.get(&self.target_label) == joined,
            Action::DropEqual => return labels.get(&self.target_label) != joined,
            Action::Replace => self.replace(&joined, labels),
            Action::Lowercase => labels.set(&self.target_label, joined.to_lowercase()),
            Action::Uppercase => labels.set(&self.target_label, joined.to_uppercase()),
            Action::HashMod => {
                let value = last_half_of_md5(joined.as_bytes()) % self.modulus.max(1);
                labels.set(&self.target_label, value.to_string());
            }
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => labels.0.retain(|(name, _)| !self.regex.is_match(name)),
            Action::LabelKeep => labels.0.retain(|(name, _)| self.regex.is_match(name)),
        }
        true
    }

    fn replace(&self, joined: &str, labels: &mut Editor) {
        let Some(found) = self.regex.captures(joined) else { return };
        let fits = |template: &str| expanded_bytes_max(template, joined.len()) <= EXPANDED_BYTES_MAX;
        if !fits(&self.target_label) || !fits(&self.replacement) {
            return;
        }
        let mut target = String::new();
        found.expand(&self.target_label, &mut target);
        if target.is_empty() {
            return;
        }
        let mut value = String::new();
        found.expand(&self.replacement, &mut value);
        labels.set(&target, value);
    }

    fn map(&self, labels: &mut Editor) {
        let before = labels.0.clone();
        for (name, value) in before {
            let fits = expanded_bytes_max(&self.replacement, name.len()) <= EXPANDED_BYTES_MAX;
            if let Some(found) = self.regex.captures(&name).filter(|_| fits) {
                let mut target = String::new();
                found.expand(&self.replacement, &mut target);
                labels.set(&target, value);
            }
        }
    }
}

/// The most that a template can become: each of its references may stand for all of what was matched.
fn expanded_bytes_max(template: &str, matched: usize) -> usize {
    let references = memchr::memchr_iter(b'$', template.as_bytes()).count();
    template.len().saturating_add(references.saturating_mul(matched))
}

/// Applies rules in their order; `None`: the target or series is dropped.
pub fn apply(rules: &[Rule], labels: &Labels) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels.clone());
    }
    let pairs = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut editor = Editor(pairs);
    if !rules.iter().all(|rule| rule.apply(&mut editor)) {
        return None;
    }
    Some(Labels::new(editor.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

/// Labels that are being changed.
struct Editor(Vec<(String, String)>);

impl Editor {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Sets a label, or removes it with an empty value. What would be too large is not set: a rule can double
    /// its input, and so can the next.
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter().position(|(n, _)| n == name) {
            _ if value.len() > VALUE_BYTES_MAX => {}
            Some(at) if value.is_empty() => drop(self.0.remove(at)),
            Some(at) => self.0[at].1 = value,
            None if value.is_empty() || name.is_empty() || self.0.len() >= LABELS_MAX => {}
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// The last eight bytes of the hash as a number, the highest byte first.
fn last_half_of_md5(bytes: &[u8]) -> u64 {
    let hash = Md5::digest(bytes);
    hash[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn read_action(action: Option<&str>) -> Result<Action, String> {
    let Some(action) = action.filter(|action| !action.is_empty()) else { return Ok(Action::Replace) };
    let lower = action.to_ascii_lowercase();
    let known = ACTIONS.iter().find(|(name, _)| *name == lower);
    known
        .map(|(_, action)| *action)
        .ok_or_else(|| format!("unknown relabel action {}", quote(action.as_bytes())))
}

/// What the action needs and has not, and what it has and has no use for.
fn check(written: &RuleText, action: Action, problems: &mut Vec<RuleProblem>) {
    use Action::*;
    let mut refuse = |is_wrong: bool, field: RuleField, message: String| {
        if is_wrong {
            problems.push(RuleProblem { field, message });
        }
    };
    let target = written.target_label.as_deref().unwrap_or("");
    let writes = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
    let no_modulus = "relabel configuration for hashmod requires non-zero modulus".to_owned();
    refuse(action == HashMod && written.modulus.unwrap_or(0) == 0, RuleField::Modulus, no_modulus);
    let no_target = format!("relabel configuration for {action} action requires 'target_label' value");
    refuse(writes && target.is_empty(), RuleField::TargetLabel, no_target);
    let no_name = format!("\"\" is invalid 'replacement' for {action} action");
    let is_empty = written.replacement.as_deref() == Some("");
    refuse(action == LabelMap && is_empty, RuleField::Replacement, no_name);
    for field in written.set_fields() {
        let message = match (action, field) {
            (Lowercase | Uppercase | KeepEqual | DropEqual, RuleField::Replacement) => {
                format!("'replacement' can not be set for {action} action")
            }
            (KeepEqual | DropEqual, RuleField::Regex | RuleField::Modulus | RuleField::Separator) => {
                format!(
                    "{action} action requires only 'source_labels' and `target_label`, and no other fields"
                )
            }
            (LabelDrop | LabelKeep, field) if field != RuleField::Regex => {
                format!("{action} action requires only 'regex', and no other fields")
            }
            _ => continue,
        };
        refuse(true, field, message);
    }
}

impl RuleText {
    /// The fields, but for the action, that say something else than their default.
    fn set_fields(&self) -> impl Iterator<Item = RuleField> {
        let differs =
            |field: &Option<String>, default: &str| field.as_deref().is_some_and(|text| text != default);
        let fields = [
            (RuleField::SourceLabels, !self.source_labels.is_empty()),
            (RuleField::Separator, differs(&self.separator, SEPARATOR_DEFAULT)),
            (RuleField::TargetLabel, differs(&self.target_label, "")),
            (RuleField::Regex, differs(&self.regex, REGEX_DEFAULT)),
            (RuleField::Modulus, self.modulus.unwrap_or(0) != 0),
            (RuleField::Replacement, differs(&self.replacement, REPLACEMENT_DEFAULT)),
        ];
        fields.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field)
    }
}

#[cfg(test)]
mod tests;
