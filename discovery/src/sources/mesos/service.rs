//! The tasks of one service: which kinds they are of, and what that makes of its definition.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_table::{Instance, ServiceName, ServiceSpec, SharedStr};

use super::convert::{self, Layout, Node};
use super::task::{Kind, Task, TaskKey};

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) members: BTreeSet<TaskKey>,
    /// The kinds of its members, with the number of each.
    kinds: Vec<(Arc<Kind>, usize)>,
    /// The kinds that `layout` was made of.
    laid: Vec<Arc<Kind>>,
    layout: Layout,
    /// As it was told last.
    pub(super) spec: Option<Arc<ServiceSpec>>,
}

impl Service {
    pub(super) fn count(&mut self, task: &Task, by: usize) {
        self.members.insert(task.key.clone());
        match self.kinds.iter_mut().find(|(kind, _)| Arc::ptr_eq(kind, &task.kind)) {
            Some((_, count)) => *count += by,
            None => self.kinds.push((Arc::clone(&task.kind), by)),
        }
    }

    pub(super) fn uncount(&mut self, kind: &Arc<Kind>) {
        if let Some(at) = self.kinds.iter().position(|(known, _)| Arc::ptr_eq(known, kind)) {
            self.kinds[at].1 -= 1;
            if self.kinds[at].1 == 0 {
                self.kinds.swap_remove(at);
            }
        }
    }

    /// Brings ports and definition up to date with the kinds of its members. True if the definition is another.
    pub(super) fn lay_out(&mut self, name: &ServiceName) -> bool {
        // By content, so that the order of arrival never shows.
        self.kinds.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let same = self.laid.len() == self.kinds.len()
            && self.laid.iter().zip(&self.kinds).all(|(laid, (kind, _))| Arc::ptr_eq(laid, kind));
        if !same {
            self.laid = self.kinds.iter().map(|(kind, _)| Arc::clone(kind)).collect();
            self.layout = Layout::of(self.laid.iter().map(|kind| &**kind));
        }
        let spec = convert::spec(name, &self.layout, &self.kinds);
        if self.spec.as_deref() == Some(&spec) {
            return false;
        }
        self.spec = Some(Arc::new(spec));
        true
    }

    pub(super) fn instance(&self, task: &Task, node: Option<&Node>) -> Instance {
        let at = self.laid.iter().position(|kind| Arc::ptr_eq(kind, &task.kind));
        let places: &[(u16, u16)] = at.map_or(&[], |at| &self.layout.places[at]);
        let is_checked = self.spec.as_ref().is_some_and(|spec| spec.checks_defined);
        let mut instance = convert::instance(task, places, is_checked, node);
        // Of several tasks of one id, the first framework's first has it; the others are told apart.
        if task.key.twin > 0 || self.namesakes(&task.key).next() != Some(&task.key) {
            instance.correlation = Some(instance.id.clone());
            instance.id = task.key.namesake_id();
        }
        instance
    }

    /// Members with the same task id, by framework and number.
    pub(super) fn namesakes<'s>(&'s self, key: &'s TaskKey) -> impl Iterator<Item = &'s TaskKey> {
        let from = TaskKey { id: key.id.clone(), framework: SharedStr::default(), twin: 0 };
        self.members.range(from..).take_while(|other| other.id == key.id)
    }
}
