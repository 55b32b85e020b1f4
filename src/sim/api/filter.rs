//! Which apps a list is to contain, and what of them.

use super::request::Call;
use crate::sim::cluster::{Definition, Image};

/// Members of an app that are only written on request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Embed {
    pub(super) tasks: bool,
    pub(super) deployments: bool,
    pub(super) readiness: bool,
    pub(super) last_failure: bool,
    pub(super) stats: bool,
}

impl Embed {
    /// What a single app is answered with.
    pub(super) const SINGLE: Self =
        Self { tasks: true, deployments: true, readiness: true, last_failure: true, stats: false };

    pub(super) fn of(call: &Call) -> Self {
        let mut embed = Self::default();
        let mut any = false;
        for value in call.params("embed") {
            any = true;
            let value = value.strip_prefix("group.").unwrap_or(value);
            let value = value.strip_prefix("apps.").or_else(|| value.strip_prefix("app.")).unwrap_or(value);
            match value {
                "tasks" => (embed.tasks, embed.deployments) = (true, true),
                "deployments" => embed.deployments = true,
                "readiness" => embed.readiness = true,
                "lastTaskFailure" => embed.last_failure = true,
                "taskStats" => embed.stats = true,
                "failures" => {
                    (embed.tasks, embed.deployments, embed.last_failure) = (true, true, true);
                }
                _ => {}
            }
        }
        embed.deployments |= !any;
        embed
    }
}

/// The filters of a list.
#[derive(Debug, Default)]
pub(super) struct Filter {
    id: Option<String>,
    cmd: Option<String>,
    labels: Vec<Selector>,
}

impl Filter {
    pub(super) fn of(call: &Call) -> Result<Self, String> {
        let own = |name: &str| call.param(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let labels = match own("label") {
            Some(text) => {
                split_selectors(&text).iter().map(|text| Selector::parse(text)).collect::<Result<_, _>>()?
            }
            None => Vec::new(),
        };
        Ok(Self { id: own("id"), cmd: own("cmd"), labels })
    }

    pub(super) fn admits(&self, image: &Image) -> bool {
        let definition = &image.definition;
        let cmd = || definition.body.get("cmd").and_then(serde_json::Value::as_str).unwrap_or_default();
        self.id.as_ref().is_none_or(|part| definition.id.contains(part.as_str()))
            && self.cmd.as_ref().is_none_or(|part| cmd().contains(part.as_str()))
            && self.labels.iter().all(|selector| selector.admits(definition))
    }
}

/// One label selector.
#[derive(Debug, PartialEq, Eq)]
enum Selector {
    Exists(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some((key, value)) = text.split_once("!=") {
            return Ok(Self::NotIn(plain(key), vec![plain(value)]));
        }
        if let Some((key, value)) = text.split_once("==") {
            return Ok(Self::In(plain(key), vec![plain(value)]));
        }
        if let Some((head, list)) = text.split_once('(') {
            let values =
                list.trim_end().strip_suffix(')').ok_or_else(|| format!("')' expected in '{text}'"))?;
            let values = values.split(',').map(plain).collect();
            let head = head.trim_end();
            if let Some(key) = head.strip_suffix(" notin") {
                return Ok(Self::NotIn(plain(key), values));
            }
            let key =
                head.strip_suffix(" in").ok_or_else(|| format!("'in' or 'notin' expected in '{text}'"))?;
            return Ok(Self::In(plain(key), values));
        }
        if text.is_empty() || text.contains([' ', '=', ')']) {
            return Err(format!("label selector '{text}' is not understood"));
        }
        Ok(Self::Exists(plain(text)))
    }

    fn admits(&self, definition: &Definition) -> bool {
        let label = |key: &String| definition.labels.get(key);
        match self {
            Self::Exists(key) => label(key).is_some(),
            Self::In(key, values) => label(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => label(key).is_none_or(|value| !values.contains(value)),
        }
    }
}

fn plain(text: &str) -> String {
    text.trim().replace('\\', "")
}

/// Splits at commas outside of parentheses.
fn split_selectors(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_u32);
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let parse = |text: &str| Selector::parse(text);
        assert_eq!(parse("group"), Ok(Selector::Exists("group".into())));
        assert_eq!(parse("a == b"), Ok(Selector::In("a".into(), vec!["b".into()])));
        assert_eq!(parse("a!=b"), Ok(Selector::NotIn("a".into(), vec!["b".into()])));
        assert_eq!(parse("a in (b, c)"), Ok(Selector::In("a".into(), vec!["b".into(), "c".into()])));
        assert_eq!(parse("a notin (b)"), Ok(Selector::NotIn("a".into(), vec!["b".into()])));
        assert_eq!(parse(r"a==x\-y"), Ok(Selector::In("a".into(), vec!["x-y".into()])));
        assert!(parse("a in b").is_err());
        assert!(parse("").is_err());
        assert_eq!(split_selectors("a in (b,c),d"), ["a in (b,c)", "d"]);
    }
}
