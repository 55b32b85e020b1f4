//! One copy of each text that many instances share: node names, zones, versions.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_table::{Instance, SharedStr};

/// The texts in use.
#[derive(Debug, Default)]
pub(crate) struct Interner(HashSet<SharedStr, RandomState>);

impl Interner {
    /// Replaces the instance's shareable texts by the copies already held. An instance that somebody else
    /// still holds is left alone: copying it would cost what this is to save.
    pub(crate) fn intern(&mut self, instance: &mut Arc<Instance>) {
        let Some(instance) = Arc::get_mut(instance) else { return };
        for text in [&mut instance.node, &mut instance.zone, &mut instance.region, &mut instance.version]
            .into_iter()
            .flatten()
        {
            self.share(text);
        }
        for address in &mut instance.addresses {
            if let Some(name) = address.overlay_mut() {
                self.share(name);
            }
        }
        instance.addresses.shrink_to_fit();
        instance.endpoints.shrink_to_fit();
    }

    fn share(&mut self, text: &mut SharedStr) {
        match self.0.get(text) {
            Some(held) => *text = held.clone(),
            None => {
                self.0.insert(text.clone());
            }
        }
    }

    /// Forgets texts that nobody uses any more.
    pub(crate) fn sweep(&mut self) {
        self.0.retain(|text| SharedStr::strong_count(text).is_some_and(|count| count > 1));
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_of_a_node_share_its_name() {
        let mut interner = Interner::default();
        let mut pair = ["a", "b"].map(|id| {
            let mut instance = Instance::running(id);
            instance.node = Some("node-1".into());
            Arc::new(instance)
        });
        pair.iter_mut().for_each(|instance| interner.intern(instance));
        assert!(SharedStr::ptr_eq(pair[0].node.as_ref().unwrap(), pair[1].node.as_ref().unwrap()));
        interner.sweep();
        assert_eq!(interner.0.len(), 1);
        drop(pair);
        interner.sweep();
        assert!(interner.0.is_empty());
    }
}
