//! One value of the file → one value of a type: times, sizes, shares, addresses, networks, words.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use portolan_table::{NameError, SERVICE_NAME_LEN_MAX, ServiceName};
use toml::de::DeValue;

use crate::suggest::suggestion;

/// Longest text taken anywhere, in octets.
const TEXT_LEN_MAX: usize = 4096;
/// Longest time taken anywhere: ten years of seconds.
const TIME_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Why a value is refused.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    /// Names a word that would be right too.
    pub(crate) fn or(self, word: &str) -> Self {
        Self { hint: self.hint.map(|hint| format!("{hint}, or \"{word}\"")), ..self }
    }
}

pub(crate) type Parsed<T> = Result<T, Wrong>;

pub(crate) fn wrong<T>(message: String, hint: impl Into<String>) -> Parsed<T> {
    Err(Wrong { message, hint: Some(hint.into()) })
}

/// A text in quotes, short, on one line, without credentials of URLs.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let concealed = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    };
    match concealed.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{:?}", format!("{}…", &concealed[..cut])),
        None => format!("{concealed:?}"),
    }
}

/// A value as a message names it.
pub(crate) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn not_a<T>(value: &DeValue<'_>, wanted: &str, hint: impl Into<String>) -> Parsed<T> {
    wrong(format!("{} is not {wanted}", shown(value)), hint)
}

/// Any text that is not empty.
pub(crate) fn text(value: &DeValue<'_>) -> Parsed<String> {
    match value.as_str() {
        None => not_a(value, "a text", "write it in quotes"),
        Some("") => wrong("\"\" is empty".to_owned(), "leave the key out for its default"),
        Some(text) if text.len() > TEXT_LEN_MAX => {
            wrong(format!("{} is too long", quoted(text)), format!("{TEXT_LEN_MAX} octets are the limit"))
        }
        Some(text) if text.contains('\0') => {
            wrong(format!("{} holds a NUL character", quoted(text)), "take it out")
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// [`text`], shared.
pub(crate) fn shared_text(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    text(value).map(Arc::from)
}

pub(crate) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    match value {
        DeValue::Boolean(truth) => Ok(*truth),
        other => not_a(other, "true or false", "write true or false, without quotes"),
    }
}

/// A whole number from `min` to `max`.
pub(crate) fn number(min: i64, max: i64) -> impl Fn(&DeValue<'_>) -> Parsed<i64> {
    move |value| {
        let hint = format!("from {min} to {max}");
        let DeValue::Integer(number) = value else {
            return not_a(value, "a whole number", format!("write one {hint}, without quotes"));
        };
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => wrong(format!("{number} is out of range"), hint),
        }
    }
}

/// [`number`] for counts.
pub(crate) fn count(min: u32, max: u32) -> impl Fn(&DeValue<'_>) -> Parsed<u32> {
    let parse = number(i64::from(min), i64::from(max));
    // The range is checked, so the conversion cannot lose anything.
    move |value| parse(value).map(|n| u32::try_from(n).unwrap_or(max))
}

const TIME_HINT: &str = "write a number with a unit (ms, s, m, h, d), as in \"5s\" or \"1h30m\"";

/// A time from `min` to `max`.
pub(crate) fn time_within(min: Duration, max: Duration) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let time = match value {
            DeValue::String(text) => parse_time(text),
            DeValue::Integer(n) => {
                return not_a(value, "a time", format!("give a unit, as in \"{}s\"", n.as_str()));
            }
            _ => None,
        };
        match time {
            None => not_a(value, "a time", TIME_HINT),
            Some(time) if time < min => {
                wrong(format!("{} is too short", shown(value)), format!("at least \"{}\"", show_time(min)))
            }
            Some(time) if time > max => {
                wrong(format!("{} is too long", shown(value)), format!("at most \"{}\"", show_time(max)))
            }
            Some(time) => Ok(time),
        }
    }
}

/// A time above zero.
pub(crate) fn time(value: &DeValue<'_>) -> Parsed<Duration> {
    time_within(Duration::from_millis(1), TIME_MAX)(value)
}

/// A time, or `word` for none.
pub(crate) fn time_or(word: &'static str) -> impl Fn(&DeValue<'_>) -> Parsed<Option<Duration>> {
    move |value| match value.as_str() {
        Some(text) if text == word => Ok(None),
        _ => time(value).map(Some).map_err(|wrong| wrong.or(word)),
    }
}

/// A number of whole seconds from `min` to `max`, as DNS counts them.
pub(crate) fn whole_seconds(min: u32, max: u32) -> impl Fn(&DeValue<'_>) -> Parsed<u32> {
    let parse = time_within(Duration::from_secs(min.into()), Duration::from_secs(max.into()));
    move |value| {
        let time = parse(value)?;
        if time.subsec_nanos() > 0 {
            return wrong(
                format!("{} is not a whole number of seconds", shown(value)),
                "DNS counts in seconds",
            );
        }
        Ok(u32::try_from(time.as_secs()).unwrap_or(max))
    }
}

/// `1h30m`, `250ms`: numbers with units, each unit once and the larger first.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let (mut rest, mut total_ms, mut allowed) = (text, 0_u64, &UNITS[..]);
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (amount, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let place = allowed.iter().position(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(amount.checked_mul(allowed[place].1)?)?;
        allowed = &allowed[place + 1..];
        rest = after;
    }
    let total = Duration::from_millis(total_ms);
    (total <= TIME_MAX).then_some(total)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A time as one would write it, in its largest whole unit.
pub(crate) fn show_time(time: Duration) -> String {
    let ms = time.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if ms >= size && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

/// A number of octets from `min` to `max`.
pub(crate) fn size(min: u64, max: u64) -> impl Fn(&DeValue<'_>) -> Parsed<u64> {
    move |value| match value {
        DeValue::String(text) => match parse_size(text) {
            None => not_a(value, "a size", "write a number with a unit, as in \"64KiB\" or \"1MB\""),
            Some(size) if size < min => {
                wrong(format!("{} is too small", quoted(text)), format!("at least {:?}", show_size(min)))
            }
            Some(size) if size > max => {
                wrong(format!("{} is too large", quoted(text)), format!("at most {:?}", show_size(max)))
            }
            Some(size) => Ok(size),
        },
        DeValue::Integer(n) => {
            not_a(value, "a size", format!("give a unit, as in \"{}B\" or \"64KiB\"", n.as_str()))
        }
        _ => not_a(value, "a size", "write a number with a unit, as in \"64KiB\" or \"1MB\""),
    }
}

/// A size as one would write it, in its largest whole unit.
fn show_size(size: u64) -> String {
    for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if size >= scale && size.is_multiple_of(scale) {
            return format!("{}{unit}", size / scale);
        }
    }
    format!("{size}B")
}

pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (amount, unit) = split_number(text)?;
    let scale = match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    amount.checked_mul(scale)
}

/// A share of a whole, `"30%"` → 0.3.
pub(crate) fn share(value: &DeValue<'_>) -> Parsed<f64> {
    const HINT: &str = "write a percentage from \"0%\" to \"100%\"";
    let DeValue::String(text) = value else {
        let bare = match value {
            DeValue::Float(number) => {
                number.as_str().parse().ok().filter(|share| (0.0..=1.0).contains(share))
            }
            _ => None,
        };
        return match bare {
            Some::<f64>(share) => {
                not_a(value, "a share", format!("write it as \"{}%\"", (share * 1e6).round() / 1e4))
            }
            None => not_a(value, "a share", HINT),
        };
    };
    let digits =
        text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match digits.and_then(|digits| digits.parse::<f64>().ok()) {
        None => not_a(value, "a share", HINT),
        Some(percent) if percent > 100.0 => wrong(format!("{} is more than the whole", quoted(text)), HINT),
        Some(percent) => Ok(percent / 100.0),
    }
}

/// IP address and port.
pub(crate) fn address(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    const HINT: &str = "write an IP address and a port, as in \"0.0.0.0:53\" or \"[::1]:53\"";
    let Some(text) = value.as_str() else {
        return match value {
            DeValue::Integer(port) => {
                not_a(value, "an address", format!("write \"0.0.0.0:{}\" for all addresses", port.as_str()))
            }
            _ => not_a(value, "an address", HINT),
        };
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return wrong(
            format!("{} has no port", quoted(text)),
            format!(
                "write {}",
                if ip.is_ipv4() { format!("\"{ip}:PORT\"") } else { format!("\"[{ip}]:PORT\"") }
            ),
        );
    }
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => match host {
            "" | "*" => not_a(value, "an address", format!("write \"0.0.0.0:{port}\" for all addresses")),
            "localhost" => not_a(value, "an address", format!("write \"127.0.0.1:{port}\"")),
            _ => not_a(value, "an address", format!("{HINT}; host names are not looked up here")),
        },
        Some((host, _)) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            wrong(format!("the port of {} is not a number from 0 to 65535", quoted(text)), HINT)
        }
        _ => not_a(value, "an address", HINT),
    }
}

/// A network in prefix notation.
pub(crate) fn network(value: &DeValue<'_>) -> Parsed<(IpAddr, u8)> {
    const HINT: &str = "write an address and a prefix length, as in \"10.0.0.0/8\"";
    let Some(text) = value.as_str() else { return not_a(value, "a network", HINT) };
    let Some((address, prefix)) = text.split_once('/') else {
        return match text.parse::<IpAddr>() {
            Ok(ip) => {
                not_a(value, "a network", format!("write \"{ip}/{}\" for this address alone", width(ip)))
            }
            Err(_) => not_a(value, "a network", HINT),
        };
    };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else {
        return not_a(value, "a network", HINT);
    };
    if prefix > width(address) {
        return wrong(
            format!("the prefix of {} is too long", quoted(text)),
            format!("at most {} bits", width(address)),
        );
    }
    match first_address(address, prefix) {
        first if first == address => Ok((address, prefix)),
        first => wrong(
            format!("{} has bits set behind its prefix", quoted(text)),
            format!("the network is \"{first}/{prefix}\""),
        ),
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn first_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// The name of a service.
pub(crate) fn service_name(value: &DeValue<'_>) -> Parsed<ServiceName> {
    let text = text(value)?;
    ServiceName::parse(&text).or_else(|error| {
        let hint = match text.strip_prefix('/') {
            // A Marathon id turned round is the name of its service.
            Some(id) => {
                let name = id.split('/').rev().collect::<Vec<_>>().join(".");
                format!("the service of this id is {}", quoted(&name))
            }
            None => "write labels joined by dots, most specific first, as in \"web.shop.prod\"".to_owned(),
        };
        wrong(name_message(&text, &error), hint)
    })
}

/// Why `text` is not a name, in few words.
pub(crate) fn name_message(text: &str, error: &NameError) -> String {
    let text = quoted(text);
    match error {
        NameError::Empty => "\"\" is empty".to_owned(),
        NameError::EmptyLabel(_) => format!("{text} has an empty label"),
        NameError::LabelTooLong(_) => format!("{text} has a label longer than 63 octets"),
        NameError::TooLong(_) => format!("{text} is longer than {SERVICE_NAME_LEN_MAX} octets"),
        NameError::BadCharacter { character, .. } => {
            format!("{text} holds {character:?} beside letters, digits, '-' and '_'")
        }
    }
}

/// One label of a domain name, lower case.
pub(crate) fn label(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    const HINT: &str = "letters, digits, '-' and '_' are allowed, 63 at most";
    let text = text(value)?;
    let fits = text.len() <= portolan_table::LABEL_LEN_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !fits {
        return wrong(format!("{} is not a label", quoted(&text)), HINT);
    }
    Ok(text.to_ascii_lowercase().into())
}

/// One of the words of `choices`; those of `later` are known and refused.
pub(crate) fn choice<T: Clone>(
    choices: &'static [(&'static str, T)],
    later: &'static [&'static str],
) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let allowed = choices.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let Some(text) = value.as_str() else {
            return not_a(value, "a word that is known here", format!("allowed: {allowed}"));
        };
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(chosen.clone());
        }
        if later.contains(&text) {
            return wrong(
                format!("{text:?} is not supported by this version"),
                format!("supported: {allowed}"),
            );
        }
        let near = suggestion(text, choices.iter().map(|(word, _)| *word));
        let near = near.map_or(String::new(), |word| format!("did you mean {word:?}? "));
        wrong(format!("{} is not known here", quoted(text)), format!("{near}allowed: {allowed}"))
    }
}
