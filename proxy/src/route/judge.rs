//! One rule against one request, condition by condition: what `explain` shows, and the plain meaning that the
//! compiled lookup is tested against.

use portolan_table::{HostMatch, PathMatch};

use super::explain::Verdict;
use super::order::prefix_key;
use super::{Fields, Query, Route};

impl Route {
    /// Looks at every condition, in the order of the total order; `host` is the query's, normalised.
    pub(super) fn judge<F: Fields + ?Sized>(&self, host: Option<&[u8]>, query: &Query<'_, F>) -> Verdict {
        let matches = &self.spec.matches;
        if matches.listener.as_deref().is_some_and(|listener| listener != query.listener) {
            return Verdict::Listener;
        }
        if !host_fits(&matches.host, host) {
            return Verdict::Host;
        }
        if !self.path_fits(query.path) {
            return if self.problem.is_some() { Verdict::Broken } else { Verdict::Path };
        }
        if !self.takes_method(query.method) {
            return Verdict::Method;
        }
        if !self.takes(query) {
            return Verdict::Header;
        }
        Verdict::Chosen
    }

    /// Method and headers hold.
    #[inline]
    pub(super) fn takes<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> bool {
        let headers = &self.spec.matches.headers;
        self.takes_method(query.method)
            && headers.iter().all(|header| query.fields.has(&header.name, header.value.as_deref()))
    }

    fn takes_method(&self, method: &str) -> bool {
        let methods = &self.spec.matches.methods;
        methods.is_empty() || methods.iter().any(|own| **own == *method)
    }

    fn path_fits(&self, path: &str) -> bool {
        match &self.spec.matches.path {
            PathMatch::Exact(own) => **own == *path,
            PathMatch::Prefix(prefix) => {
                let prefix = prefix_key(prefix);
                let rest = path.strip_prefix(prefix);
                rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(_) => self.regex.as_ref().is_some_and(|regex| regex.matches(path)),
        }
    }
}

fn host_fits(condition: &HostMatch, host: Option<&[u8]>) -> bool {
    let Some(host) = host else { return *condition == HostMatch::Any };
    match condition {
        HostMatch::Exact(own) => own.as_bytes() == host,
        HostMatch::Below(domain) => {
            let rest = host.strip_suffix(domain.as_bytes());
            rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with(b"."))
        }
        HostMatch::Any => true,
    }
}
