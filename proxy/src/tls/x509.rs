//! The few facts of a certificate that choosing one takes: its names and its term (RFC 5280 §4.1).
//!
//! A reader of DER that goes no deeper than these fields. Whether the rest makes sense is for the library that signs
//! with it, and for the clients that are shown it.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` of `TBSCertificate`: the version.
const VERSION: u8 = 0xa0;
/// `[3]` of `TBSCertificate`: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` of `GeneralName`: a DNS name.
const DNS_NAME: u8 = 0x82;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Names taken from one certificate.
const NAMES_MAX: usize = 1000;

/// What is known about a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// DNS names, lower case, without repetition; a wildcard as `*.example.com`.
    pub(super) names: Vec<Box<str>>,
    /// First second of its term, Unix time.
    pub(super) not_before: i64,
    /// Last second of its term, Unix time.
    pub(super) not_after: i64,
}

/// Elements of DER, one after the other.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    /// Tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            short @ 0..=0x7f => (usize::from(short), rest),
            // Four octets of length are far beyond any file that is read.
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().and_then(|(found, content)| (found == tag).then_some(content))
    }
}

/// The facts of a certificate in DER; `None` if it is none.
pub(super) fn read(der: &[u8]) -> Option<Facts> {
    let mut body = Elements(Elements(Elements(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.next()?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        body.next()?;
    }
    let mut term = Elements(body.expect(SEQUENCE)?);
    let (not_before, not_after) = (time(term.next()?)?, time(term.next()?)?);
    let subject = body.expect(SEQUENCE)?;
    let mut names = Vec::new();
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            alternative_names(Elements(content).expect(SEQUENCE)?, &mut names);
        }
    }
    if let Some(name) = common_name(subject) {
        push(&mut names, name);
    }
    Some(Facts { names, not_before, not_after })
}

fn alternative_names(extensions: &[u8], names: &mut Vec<Box<str>>) {
    let mut extensions = Elements(extensions);
    while let Some(extension) = extensions.expect(SEQUENCE) {
        let mut parts = Elements(extension);
        if parts.expect(OID) != Some(SUBJECT_ALT_NAME) {
            continue;
        }
        // Whether the extension is critical may stand before its value.
        while let Some((tag, value)) = parts.next() {
            let list = (tag == OCTET_STRING).then(|| Elements(value).expect(SEQUENCE)).flatten();
            let mut list = Elements(list.unwrap_or_default());
            while let Some((tag, name)) = list.next() {
                if tag == DNS_NAME {
                    push(names, name);
                }
            }
        }
    }
}

/// HAProxy chooses by the common name too, so certificates that rely on it go on working.
fn common_name(subject: &[u8]) -> Option<&[u8]> {
    let mut sets = Elements(subject);
    let mut found = None;
    while let Some(set) = sets.expect(SET) {
        let mut pair = Elements(Elements(set).expect(SEQUENCE)?);
        if pair.expect(OID)? == COMMON_NAME {
            found = pair.next().map(|(_, value)| value);
        }
    }
    found
}

/// Takes a name if it can be one of a host.
fn push(names: &mut Vec<Box<str>>, name: &[u8]) {
    let Ok(name) = core::str::from_utf8(name) else { return };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let host = name.strip_prefix("*.").unwrap_or(&name);
    let fits = (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits && names.len() < NAMES_MAX && !names.iter().any(|known| **known == *name) {
        names.push(name.into());
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5) as Unix time.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let number = |digits: &[u8]| -> Option<i64> {
        digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let (year, rest) = match tag {
        UTC_TIME => {
            let (digits, rest) = text.split_at_checked(2)?;
            let year = number(digits)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (digits, rest) = text.split_at_checked(4)?;
            (number(digits)?, rest)
        }
        _ => return None,
    };
    let [rest @ .., b'Z'] = rest else { return None };
    if rest.len() != 10 {
        return None;
    }
    let mut parts = rest.chunks(2).map(number);
    let mut part = || parts.next().flatten();
    let (month, day) = (part()?, part()?);
    let (hour, minute, second) = (part()?, part()?, part()?);
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so that the leap day is the last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(names: &[&str], common_name: &str) -> Vec<u8> {
        let mut params =
            rcgen::CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
                .unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Org");
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2150, 1, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_term_of_a_certificate() {
        let facts = read(&certificate(&["Shop.example.com", "*.img.example.com", "192.0.2.1"], "cn.example"))
            .unwrap();
        let names: Vec<&str> = facts.names.iter().map(|name| &**name).collect();
        assert_eq!(names, ["shop.example.com", "*.img.example.com", "cn.example"]);
        assert_eq!((facts.not_before, facts.not_after), (1_709_164_800, 5_680_281_600));
    }

    #[test]
    fn a_common_name_that_is_no_host_is_no_name() {
        assert!(read(&certificate(&[], "Some Organisation")).unwrap().names.is_empty());
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(time((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(time((GENERALIZED_TIME, b"20000301000001Z")), Some(951_868_801));
        for wrong in [&b""[..], b"7001010000Z", b"700101000000", b"x00101000000Z", b"7001010000000Z"] {
            assert_eq!(time((GENERALIZED_TIME, wrong)), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(cut in 0_usize..1000, at in 0_usize..1000, octet: u8) {
            let mut der = certificate(&["a.example", "*.b.example"], "c.example");
            let length = der.len();
            der[at % length] = octet;
            der.truncate(length - cut % length);
            let _ = read(&der);
        }
    }
}
