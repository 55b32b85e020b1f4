//! How a rule looks at the fields of a request head, whichever parser made it.

/// The header fields of one request.
pub trait Fields {
    /// True if a field line of this name (compared without case) is there, with exactly `value` if one is given.
    fn has(&self, name: &str, value: Option<&str>) -> bool;
}

impl Fields for [httparse::Header<'_>] {
    fn has(&self, name: &str, value: Option<&str>) -> bool {
        self.iter().any(|field| {
            field.name.eq_ignore_ascii_case(name) && value.is_none_or(|v| v.as_bytes() == field.value)
        })
    }
}

impl Fields for http::HeaderMap {
    fn has(&self, name: &str, value: Option<&str>) -> bool {
        self.get_all(name).iter().any(|field| value.is_none_or(|v| v.as_bytes() == field.as_bytes()))
    }
}

impl Fields for [(&str, &str)] {
    fn has(&self, name: &str, value: Option<&str>) -> bool {
        self.iter().any(|(n, v)| n.eq_ignore_ascii_case(name) && value.is_none_or(|value| value == *v))
    }
}

impl<F: Fields + ?Sized> Fields for &F {
    fn has(&self, name: &str, value: Option<&str>) -> bool {
        (**self).has(name, value)
    }
}
