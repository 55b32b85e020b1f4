//! The names of a zone, for those who need all of them: transfers.

use core::ops::ControlFlow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Zone;
use super::lookup::Found;
use super::names::Standing;
use crate::wire::{NAME_LEN_MAX, QueryName, text_to_name};

impl Zone {
    /// Its apex in wire form, root included.
    #[must_use]
    pub fn apex(&self) -> &[u8] {
        &self.fixed.apex
    }

    /// Hands out every name below the apex that may have records, in wire form and each once, until `each` breaks.
    /// Walks everything.
    pub fn each_owner(&self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) {
        for (name, _) in self.listed.iter() {
            if each(&self.full(name)).is_break() {
                return;
            }
        }
        for (name, standing) in self.names.iter() {
            let own = self.full(&name);
            let names = core::iter::once(own).chain(self.inside_of(&name, &standing));
            for name in names.filter(|name| self.is_answered_by(name, &standing)) {
                if each(&name).is_break() {
                    return;
                }
            }
        }
    }

    /// The names whose answers may differ between `self` and `other`, an earlier or later state of this zone. Costs
    /// as much as the two differ, unless what holds for the zone as a whole does.
    pub(crate) fn owners_apart(&self, other: &Self) -> BTreeSet<Vec<u8>> {
        let mut owners = BTreeSet::from([self.fixed.apex.clone()]);
        for (one, two) in [(self, other), (other, self)] {
            if Arc::ptr_eq(&self.fixed, &other.fixed) {
                owners.extend(one.listed.apart_from(&two.listed).map(|name| one.full(name)));
                for (name, standing) in one.names.apart_from(&two.names) {
                    owners.insert(one.full(&name));
                    owners.extend(one.inside_of(&name, &standing));
                }
            } else {
                one.each_owner(|name| {
                    owners.insert(name.to_vec());
                    ControlFlow::Continue(())
                });
            }
        }
        owners
    }

    fn full(&self, name: &[u8]) -> Vec<u8> {
        [name, &self.fixed.apex].concat()
    }

    /// The names that are found inside the entry at `name`.
    fn inside_of(&self, name: &[u8], standing: &Standing<'_>) -> impl Iterator<Item = Vec<u8>> {
        let inner = match standing {
            // Some are listed once for each port that has them.
            Standing::Service(entry, part) => BTreeSet::from_iter(entry.inner_names(part.of(entry))),
            Standing::Node(_) | Standing::Empty => BTreeSet::new(),
        };
        let end = self.full(name);
        inner.into_iter().filter_map(move |inner| {
            let mut wire = text_to_name(&inner)?;
            wire.pop();
            wire.extend_from_slice(&end);
            (wire.len() <= NAME_LEN_MAX).then_some(wire)
        })
    }

    /// True if a query for `name` is answered from `standing`. A name may be made in two places (the service
    /// `_tcp.web` and the protocol of the service `web`); it is answered from one.
    fn is_answered_by(&self, name: &[u8], standing: &Standing<'_>) -> bool {
        let Some(asked) = QueryName::of(name) else { return false };
        match self.find(&asked) {
            Found::Service(entry, _)
            | Found::Ports { entry, .. }
            | Found::InstancePorts { entry, .. }
            | Found::Instance(entry, _) => {
                matches!(standing, Standing::Service(own, _) if core::ptr::eq(entry, *own))
            }
            Found::Node(_) => matches!(standing, Standing::Node(_)),
            Found::Apex | Found::Inner | Found::Empty | Found::Missing => false,
        }
    }
}
