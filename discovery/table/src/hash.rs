//! The two hashes of the table: a fast one for indexes, and a fixed one for names that leave the process.

use core::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// Seed of the index hash. Fixed, so that the shape of a snapshot is a function of its content alone.
const INDEX_SEED: u64 = 0x706f_7274_6f6c_616e;

/// Hashes `bytes` for an index inside one process. Not stable between versions: never store or send it.
#[inline]
#[must_use]
pub fn index_hash(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(INDEX_SEED).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// A 64-bit hash that is the same on every node and in every version: FNV-1a over the parts, each closed
/// by a byte that UTF-8 never holds, then the finaliser of MurmurHash3 for spread in all bits.
#[must_use]
pub fn stable_hash(parts: &[&str]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for part in parts {
        for byte in part.bytes().chain(core::iter::once(0xff)) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_hash_never_changes() {
        // These values are part of names that clients hold; a change here renames every instance.
        assert_eq!(stable_hash(&[]), 0xefd0_1f60_ba99_2926);
        assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
    }
}
