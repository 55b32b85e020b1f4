//! Names of tasks and frameworks as labels, by Mesos-DNS's rule.

/// The rule of one zone (`EnforceRFC952`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    len_max: usize,
    /// No digits in front.
    letters_first: bool,
}

impl Rule {
    /// Labels as RFC 1123 §2.1 has them, or the shorter ones of RFC 952.
    pub(crate) const fn new(rfc952: bool) -> Self {
        if rfc952 {
            Self { len_max: 24, letters_first: true }
        } else {
            Self { len_max: 63, letters_first: false }
        }
    }

    /// One label; empty if nothing of the text can stay. Dots become dashes.
    pub(crate) fn label(self, text: &str) -> String {
        let kept: String = text
            .chars()
            .filter_map(|c| match c {
                'a'..='z' | '0'..='9' | '-' => Some(c),
                'A'..='Z' => Some(c.to_ascii_lowercase()),
                '.' | '_' => Some('-'),
                _ => None,
            })
            .collect();
        let is_stripped = |c: char| c == '-' || (self.letters_first && c.is_ascii_digit());
        let kept = kept.trim_start_matches(is_stripped);
        let (head, rest) = kept.split_at(kept.len().min(self.len_max));
        let mut label = head.trim_end_matches('-').to_owned();
        if label.len() < head.len() {
            // What stands beyond the cut fills the places that dashes left free.
            let rest = rest.trim_start_matches('-');
            label.push_str(&rest[..rest.len().min(self.len_max - label.len())]);
        }
        label
    }

    /// The labels between the dots of a text, each by the rule; those of which nothing stays are left out.
    pub(crate) fn fragment(self, text: &str) -> String {
        let labels = text.split('.').map(|part| self.label(part)).filter(|label| !label.is_empty());
        labels.collect::<Vec<_>>().join(".")
    }
}
