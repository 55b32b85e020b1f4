//! Telling the catalog what a source holds: all of it as a list, or only what differs from what was told before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_table::{Instance, ServiceSpec, SharedStr};

use crate::clock;
use crate::source::{Change, Sink, SourceError, Unread};

/// [`Change::Alive`] is told no more often.
const ALIVE_PAUSE: Duration = Duration::from_secs(5);

/// A service with its instances.
pub(crate) type Service = (Arc<ServiceSpec>, Vec<Arc<Instance>>);

/// Services by key.
pub(crate) type Services = BTreeMap<SharedStr, Service>;

/// What the catalog has been told in one session of a source that knows its services as wholes.
pub(crate) struct Telling<'s> {
    sink: &'s Sink,
    told: Services,
    /// Services of which some instances could not be read.
    in_part: BTreeSet<SharedStr>,
    alive: Instant,
}

impl<'s> Telling<'s> {
    /// Nothing has been told yet.
    pub(crate) fn new(sink: &'s Sink) -> Self {
        Self { sink, told: Services::new(), in_part: BTreeSet::new(), alive: clock::now() }
    }

    /// Tells everything as one whole list; problems replace those of the list before.
    pub(crate) async fn list(
        &mut self,
        received: Instant,
        services: Services,
        problems: Vec<(SharedStr, String)>,
    ) -> Result<(), SourceError> {
        self.begin(received).await?;
        self.rest_of_list(received, services, problems).await
    }

    /// Begins a list: what belongs to it beside services is told before the rest.
    pub(crate) async fn begin(&self, received: Instant) -> Result<(), SourceError> {
        self.sink.send(received, Change::ListBegin).await
    }

    /// The list that was begun, and its end.
    pub(crate) async fn rest_of_list(
        &mut self,
        received: Instant,
        services: Services,
        problems: Vec<(SharedStr, String)>,
    ) -> Result<(), SourceError> {
        for (key, service) in &services {
            let change = if self.in_part.contains(key) { part(service) } else { whole(service) };
            self.sink.send(received, change).await?;
        }
        for (place, message) in problems {
            self.sink.send(received, Change::Problem { place, message }).await?;
        }
        self.sink.send(received, Change::ListComplete).await?;
        self.told = services;
        self.forget_parts();
        self.alive = received;
        Ok(())
    }

    /// Tells what has changed of everything.
    pub(crate) async fn difference(
        &mut self,
        received: Instant,
        services: Services,
    ) -> Result<(), SourceError> {
        tell_difference(self.sink, received, &self.told, &services).await?;
        self.told = services;
        self.alive(received).await
    }

    /// What was told of the service `key`.
    pub(crate) fn told(&self, key: &SharedStr) -> Option<&Service> {
        self.told.get(key)
    }

    /// Of the service `key`, which is told next, some instances could not be read: what is held of those stays.
    pub(crate) fn in_part(&mut self, key: &SharedStr) {
        self.in_part.insert(key.clone());
    }

    /// What is held of services told in part is not known: they are told as wholes next.
    fn forget_parts(&mut self) {
        for key in core::mem::take(&mut self.in_part) {
            self.told.remove(&key);
        }
    }

    /// Tells what has changed of one service, which is gone if it is `None`.
    pub(crate) async fn service(
        &mut self,
        received: Instant,
        key: &SharedStr,
        service: Option<Service>,
    ) -> Result<(), SourceError> {
        let Some(after) = service else {
            self.in_part.remove(key);
            return match self.told.remove(key) {
                Some(_) => self.sink.send(received, Change::RemoveService { service: key.clone() }).await,
                None => Ok(()),
            };
        };
        if self.in_part.contains(key) {
            self.sink.send(received, part(&after)).await?;
            self.told.insert(key.clone(), after);
            self.forget_parts();
            return Ok(());
        }
        if let Some(change) = difference(self.told.get(key), &after) {
            self.sink.send(received, change).await?;
            self.told.insert(key.clone(), after);
        }
        Ok(())
    }

    /// Tells that something is odd.
    pub(crate) async fn problem(
        &self,
        received: Instant,
        place: SharedStr,
        message: String,
    ) -> Result<(), SourceError> {
        self.sink.send(received, Change::Problem { place, message }).await
    }

    /// Tells that what was told still stands, if that has not been said lately.
    pub(crate) async fn alive(&mut self, received: Instant) -> Result<(), SourceError> {
        if received.saturating_duration_since(self.alive) < ALIVE_PAUSE {
            return Ok(());
        }
        self.alive = received;
        self.sink.send(received, Change::Alive).await
    }
}

/// Tells `services` and `problems` as a list that ends in `end`.
pub(crate) async fn tell_list(
    sink: &Sink,
    received: Instant,
    services: &Services,
    problems: Vec<(SharedStr, String)>,
    end: Change,
) -> Result<(), SourceError> {
    sink.send(received, Change::ListBegin).await?;
    for service in services.values() {
        sink.send(received, whole(service)).await?;
    }
    for (place, message) in problems {
        sink.send(received, Change::Problem { place, message }).await?;
    }
    sink.send(received, end).await
}

/// Tells what is in `after` and was otherwise, or not at all, in `before`.
pub(crate) async fn tell_difference(
    sink: &Sink,
    received: Instant,
    before: &Services,
    after: &Services,
) -> Result<(), SourceError> {
    for service in before.keys().filter(|key| !after.contains_key(*key)) {
        sink.send(received, Change::RemoveService { service: service.clone() }).await?;
    }
    for (key, service) in after {
        if let Some(change) = difference(before.get(key), service) {
            sink.send(received, change).await?;
        }
    }
    Ok(())
}

fn whole((spec, instances): &Service) -> Change {
    Change::Service { spec: Arc::clone(spec), instances: instances.clone() }
}

fn part((spec, instances): &Service) -> Change {
    Change::ServiceInPart { spec: Arc::clone(spec), instances: instances.clone(), unread: Unread::Any }
}

/// The one change that turns `before` into `after`. Where a single instance differs it is told alone, so that the catalog's
/// work does not grow with the service; more than one are told as the whole service, so that they change at once.
fn difference(before: Option<&Service>, after: &Service) -> Option<Change> {
    let (spec, instances) = after;
    let Some((spec_before, before)) = before else { return Some(whole(after)) };
    if spec_before != spec {
        return Some(whole(after));
    }
    let same_id = |a: &Arc<Instance>, b: &Arc<Instance>| a.id == b.id;
    let head = before.iter().zip(instances).take_while(|(a, b)| a == b).count();
    let (before, now) = (&before[head..], &instances[head..]);
    let tail = before.iter().rev().zip(now.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&before[..before.len() - tail], &now[..now.len() - tail]) {
        ([], []) => None,
        ([gone], []) => Some(Change::RemoveInstance { service: spec.key.clone(), id: gone.id.clone() }),
        ([], [new]) => Some(Change::Instance { service: spec.key.clone(), instance: Arc::clone(new) }),
        ([old], [new]) if same_id(old, new) => {
            Some(Change::Instance { service: spec.key.clone(), instance: Arc::clone(new) })
        }
        _ => Some(whole(after)),
    }
}

#[cfg(test)]
mod tests {
    use portolan_table::{Health, ServiceName};

    use super::*;

    fn service(ids: &[(&str, Health)]) -> Service {
        let spec = ServiceSpec {
            key: "web".into(),
            name: ServiceName::parse("web").unwrap(),
            ports: Box::default(),
            labels: portolan_table::Labels::default(),
            checks_defined: false,
            version: None,
            merge: None,
            routes: Vec::new(),
            virtual_addresses: Vec::new(),
        };
        let instance =
            |(id, health): &(&str, Health)| Arc::new(Instance { health: *health, ..Instance::running(*id) });
        (Arc::new(spec), ids.iter().map(instance).collect())
    }

    #[test]
    fn one_instance_is_told_alone_and_several_at_once() {
        use Health::{Healthy as H, Unhealthy as U};
        let three = service(&[("a", H), ("b", H), ("c", H)]);
        let told = |after: &Service| match difference(Some(&three), after) {
            None => "nothing".to_owned(),
            Some(Change::Service { instances, .. }) => format!("all {}", instances.len()),
            Some(Change::Instance { instance, .. }) => format!("one {}", instance.id),
            Some(Change::RemoveInstance { id, .. }) => format!("gone {id}"),
            Some(other) => format!("{other:?}"),
        };
        for (after, expected) in [
            (service(&[("a", H), ("b", H), ("c", H)]), "nothing"),
            (service(&[("a", H), ("b", U), ("c", H)]), "one b"),
            (service(&[("a", H), ("c", H)]), "gone b"),
            (service(&[("a", H), ("b", H), ("c", H), ("d", H)]), "one d"),
            (service(&[("0", H), ("a", H), ("b", H), ("c", H)]), "one 0"),
            (service(&[("a", H), ("x", H), ("c", H)]), "all 3"),
            (service(&[("a", U), ("b", H), ("c", U)]), "all 3"),
            (service(&[]), "all 0"),
        ] {
            assert_eq!(told(&after), expected, "{after:?}");
        }
        assert!(matches!(difference(None, &three), Some(Change::Service { .. })));
    }
}
