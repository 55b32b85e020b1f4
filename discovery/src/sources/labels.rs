//! Labels of instances that are in truth their service's.

use std::collections::BTreeMap;

/// Takes the pairs that all of `each` share out of them and gives them back.
pub(super) fn take_shared(each: &mut [BTreeMap<String, String>]) -> BTreeMap<String, String> {
    let Some((first, others)) = each.split_first() else { return BTreeMap::new() };
    let in_all = |label: &str, value: &str| others.iter().all(|o| o.get(label).is_some_and(|v| v == value));
    let shared: BTreeMap<String, String> =
        first.iter().filter(|(l, v)| in_all(l, v)).map(|(l, v)| (l.clone(), v.clone())).collect();
    for labels in each {
        labels.retain(|label, _| !shared.contains_key(label));
    }
    shared
}
