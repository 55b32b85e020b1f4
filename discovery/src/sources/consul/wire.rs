//! What Consul's HTTP API writes, as far as it is read. Lists and maps may be null.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::lenient::{List, Number, Text};

/// `/v1/catalog/services`: names with the tags of all their instances.
pub(super) type Catalog = BTreeMap<String, IgnoredAny>;

/// `/v1/health/service/NAME`: the entries, each to be read by itself.
pub(super) type Entries<'a> = Vec<&'a RawValue>;

type Map<'a, T> = Option<BTreeMap<Text<'a>, Option<T>>>;

/// One instance with its node and its checks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) node: Node<'a>,
    pub(super) service: Service<'a>,
    pub(super) checks: Option<List<Check<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node<'a> {
    #[serde(borrow)]
    pub(super) node: Text<'a>,
    pub(super) address: Option<Text<'a>>,
    pub(super) datacenter: Option<Text<'a>>,
    pub(super) locality: Option<Locality<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Service<'a> {
    #[serde(borrow, rename = "ID")]
    pub(super) id: Text<'a>,
    pub(super) kind: Option<Text<'a>>,
    pub(super) tags: Option<List<Text<'a>>>,
    pub(super) address: Option<Text<'a>>,
    pub(super) tagged_addresses: Map<'a, TaggedAddress<'a>>,
    pub(super) meta: Map<'a, Text<'a>>,
    pub(super) port: Option<Number>,
    pub(super) weights: Option<Weights>,
    pub(super) locality: Option<Locality<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaggedAddress<'a> {
    #[serde(borrow)]
    pub(super) address: Option<Text<'a>>,
    pub(super) port: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Weights {
    pub(super) passing: Option<Number>,
    pub(super) warning: Option<Number>,
}

/// Since Consul 1.16.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Locality<'a> {
    #[serde(borrow)]
    pub(super) region: Option<Text<'a>>,
    pub(super) zone: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check<'a> {
    #[serde(borrow, rename = "CheckID")]
    pub(super) id: Option<Text<'a>>,
    pub(super) status: Option<Text<'a>>,
}
