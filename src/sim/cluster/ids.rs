//! Ids and timestamps in the forms Marathon writes them.

use std::sync::Arc;

/// Milliseconds since the Unix epoch; the only clock of the simulation, handed in by its owner.
pub type Millis = u64;

/// A timestamp as Marathon writes it: `2021-03-04T05:06:07.089Z`, UTC, always three decimals.
#[must_use]
pub fn timestamp(at: Millis) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// Reads a timestamp; `None` when it is none.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<Millis> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

/// Makes the cluster's ids: unique, and the same again for the same seed and times.
#[derive(Debug)]
pub(crate) struct Ids {
    rng: fastrand::Rng,
    /// Last time-based id, in 100 ns steps since 1582: two ids never share one.
    last_step: u64,
    node: u64,
    framework: String,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let node = 0x0242_ac11_0000 | u64::from(rng.u16(..));
        let framework = format!("{}-0000", random_uuid(&mut rng));
        Self { rng, last_step: 0, node, framework }
    }

    /// The framework id of this cluster.
    pub(crate) fn framework(&self) -> &str {
        &self.framework
    }

    /// The id of the agent with this number.
    pub(crate) fn agent(&self, number: usize) -> String {
        format!("{}-S{number}", self.framework)
    }

    /// A random id (RFC 9562, version 4), as deployments have.
    pub(crate) fn random(&mut self) -> String {
        random_uuid(&mut self.rng)
    }

    /// An instance id: `<app>.instance-<uuid, version 1>`.
    pub(crate) fn instance(&mut self, app: &str, now: Millis) -> Arc<str> {
        // RFC 9562 §5.1: 100 ns steps since 1582-10-15, the offset being that of the Unix epoch.
        let step = (now * 10_000 + 0x01b2_1dd2_1381_4000).max(self.last_step + 1);
        self.last_step = step;
        let path = app.trim_start_matches('/').replace('/', "_");
        format!(
            "{path}.instance-{:08x}-{:04x}-{:04x}-8b2e-{:012x}",
            step & 0xffff_ffff,
            (step >> 32) & 0xffff,
            0x1000 | ((step >> 48) & 0x0fff),
            self.node
        )
        .into()
    }

    /// The generator, for choices that must repeat with the seed.
    pub(crate) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }
}

fn random_uuid(rng: &mut fastrand::Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0x0fff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(timestamp(1_614_834_367_089), "2021-03-04T05:06:07.089Z");
        assert_eq!(timestamp(1_614_834_367_000), "2021-03-04T05:06:07.000Z");
        assert_eq!(parse_timestamp("2021-03-04T05:06:07.089Z"), Some(1_614_834_367_089));
        assert_eq!(parse_timestamp("yesterday"), None);
        let mut ids = Ids::new(1);
        let one = ids.instance("/shop/web", 1_614_834_367_089);
        let two = ids.instance("/shop/web", 1_614_834_367_089);
        assert!(one.starts_with("shop_web.instance-"), "{one}");
        assert_ne!(one, two);
        assert_eq!(one.len(), "shop_web.instance-".len() + 36);
        assert_eq!(Ids::new(7).random(), Ids::new(7).random());
        assert!(ids.agent(3).ends_with("-0000-S3"));
    }
}
