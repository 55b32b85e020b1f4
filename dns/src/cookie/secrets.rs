//! The secrets that cookies are made with: from a file that edges share, or our own.

use std::io;
use std::path::Path;

/// Secrets in a file: the one in use, the one before, and the one to come on other edges.
const SECRETS_MAX: usize = 8;
/// The file is a few lines.
const FILE_LEN_MAX: usize = 16 << 10;

type Secret = [u8; 16];

/// The secret that cookies are made with, and those that are accepted besides.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets(Box<[Secret]>);

impl Secrets {
    /// The first one is used, all are accepted. `None` without one.
    pub(crate) fn of(secrets: Vec<Secret>) -> Option<Self> {
        (!secrets.is_empty()).then(|| Self(secrets.into()))
    }

    /// A secret that only this process knows.
    #[must_use]
    pub fn random() -> Self {
        Self([random()].into())
    }

    /// Another random secret; the present one is accepted still, those before no more.
    #[must_use]
    pub fn rotated(&self) -> Self {
        Self([random(), self.0[0]].into())
    }

    #[inline]
    pub(super) fn current(&self) -> &Secret {
        &self.0[0]
    }

    #[inline]
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

fn random() -> Secret {
    let mut secret = [0; 16];
    if getrandom::fill(&mut secret).is_err() {
        // Before the kernel's generator is ready. The fast generator is seeded by the process and the time.
        fastrand::fill(&mut secret);
    }
    secret
}

/// Reads a file of secrets: 32 hexadecimal digits a line, the one to use first; `#` begins a comment.
///
/// # Errors
/// When the file cannot be read, or is not of that form. No error repeats what the file holds.
pub fn read_secrets(path: &Path) -> io::Result<Secrets> {
    parse(&std::fs::read_to_string(path)?)
        .map_err(|message| io::Error::new(io::ErrorKind::InvalidData, message))
}

fn parse(text: &str) -> Result<Secrets, String> {
    if text.len() > FILE_LEN_MAX {
        return Err(format!("longer than {FILE_LEN_MAX} octets"));
    }
    let mut secrets = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let secret = secret(line).ok_or_else(|| format!("line {number} is not 32 hexadecimal digits"))?;
        secrets.push(secret);
    }
    if secrets.len() > SECRETS_MAX {
        return Err(format!("{} secrets are too many: at most {SECRETS_MAX}", secrets.len()));
    }
    Secrets::of(secrets).ok_or_else(|| "no secret in it".to_owned())
}

fn secret(line: &str) -> Option<Secret> {
    if line.len() != 32 || !line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(line, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_secrets_is_read_and_a_wrong_one_is_told() {
        let good =
            "# since May\nE5e973e5a6b2a43f48e7dc849e37bfcf\n\n 445536bcd2513298075a5d379663c962 # old\n";
        let secrets = parse(good).unwrap();
        assert_eq!(secrets.0.len(), 2);
        assert_eq!(secrets.current()[..2], [0xe5, 0xe9]);
        for (text, message) in [
            ("", "no secret"),
            ("# nothing", "no secret"),
            ("e5e973e5", "line 1 is not"),
            ("\n+5e973e5a6b2a43f48e7dc849e37bfcf", "line 2 is not"),
            (&"e5e973e5a6b2a43f48e7dc849e37bfcf\n".repeat(9), "9 secrets"),
            (&" ".repeat(20_000), "longer"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains("5e973"), "secrets are not repeated");
        }
    }

    #[test]
    fn a_rotation_accepts_the_secret_before_and_no_other() {
        let first = Secrets::random();
        let second = first.rotated();
        assert_ne!(first.current(), second.current());
        assert!(second.accepted().any(|secret| secret == first.current()));
        assert!(!second.rotated().accepted().any(|secret| secret == first.current()));
    }
}
