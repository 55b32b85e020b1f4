//! Compiles the view.

use std::sync::Arc;

use portolan_table::{Changes, Core, Service, ServiceName, ViewBuilder};

use super::{Route, Routes, order, policy};
use crate::{Config, UpstreamConfig};

/// Builds [`Routes`] out of the configuration and the rules that services bring along.
#[derive(Debug)]
pub struct RouteBuilder {
    config: Arc<Config>,
    default: Arc<UpstreamConfig>,
}

impl RouteBuilder {
    /// A builder for this configuration; on reload, replace the view by a new one's.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { config: Arc::new(config.clone()), default: Arc::new(config.upstream.clone()) }
    }

    fn policy(&self, service: &ServiceName) -> Arc<UpstreamConfig> {
        policy(&self.config, service).map_or_else(|| Arc::clone(&self.default), Arc::new)
    }
}

impl ViewBuilder for RouteBuilder {
    type View = Routes;

    fn build(&mut self, core: &Core) -> Routes {
        let specs = core.services().flat_map(|service| rules(service)).chain(&self.config.routes);
        let mut routes: Vec<_> =
            specs.map(|spec| Arc::new(Route::new(spec.clone(), |name| self.policy(name)))).collect();
        routes.sort_by(|a, b| order::compare(&a.spec, &b.spec));
        Routes { config: Arc::clone(&self.config), routes }
    }

    fn update(&mut self, _: &Routes, core: &Core, changes: &Changes) -> Option<Routes> {
        let same = |change: &portolan_table::ServiceChange| {
            let of = |service: &Option<Arc<Service>>| {
                service.iter().flat_map(|s| rules(s).cloned().collect::<Vec<_>>()).collect::<Vec<_>>()
            };
            of(&change.before) == of(&change.after)
        };
        if changes.services.iter().all(same) {
            return None;
        }
        Some(self.build(core))
    }
}

/// The rules that a service brings along, over all its definitions.
fn rules(service: &Service) -> impl Iterator<Item = &portolan_table::RouteSpec> {
    service.specs.iter().flat_map(|(_, spec)| &spec.routes)
}
