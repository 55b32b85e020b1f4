//! The five characters by which Mesos-DNS tells tasks of one name apart: SHA-1 in z-base-32.
//!
//! SHA-1 (FIPS 180-4 §6.1) stands here for names alone, where clients have written them down; nothing is kept safe by
//! it. It is forty lines, so no crate is taken for it.

/// Characters of z-base-32, by value.
const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// The hash of a task id as it stands in names.
pub(crate) fn task_hash(id: &str) -> String {
    let [high, ..] = sha1(id.as_bytes());
    let letter = |group: u32| char::from(ALPHABET[(high >> (27 - 5 * group)) as usize & 31]);
    (0..5).map(letter).collect()
}

fn sha1(message: &[u8]) -> [u32; 5] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let blocks = message.chunks_exact(64);
    let rest = blocks.remainder();
    for block in blocks {
        compress(&mut state, block);
    }
    // The rest, a one bit, zeros, and the length in bits: one block or two.
    let mut tail = [0u8; 128];
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    tail[end - 8..end].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in tail[..end].chunks_exact(64) {
        compress(&mut state, block);
    }
    state
}

fn compress(state: &mut [u32; 5], block: &[u8]) {
    let mut words = [0u32; 80];
    for (word, octets) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = octets.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
    }
    for t in 16..80 {
        words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (t, word) in words.iter().enumerate() {
        let (f, k) = match t {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6u32),
        };
        let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    for (word, value) in state.iter_mut().zip([a, b, c, d, e]) {
        *word = word.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        let digest = |text: &str| sha1(text.as_bytes());
        assert_eq!(digest("abc"), [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d]);
        assert_eq!(digest("")[0], 0xda39_a3ee);
        let two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(digest(two), [0x8498_3e44, 0x1c3b_d26e, 0xbaae_4aa1, 0xf951_29e5, 0xe546_70f1]);
        assert_eq!(digest(&"a".repeat(1_000_000))[4], 0x6534_016f);
    }

    #[test]
    fn hashes_are_the_programs() {
        for (id, hash) in [
            ("test", "iffe9"),
            ("", "5eh48"),
            ("a", "o556e"),
            ("liquor-store.b8db9f73-562f-11e4-a088-c20493233aa5", "4dfjd"),
            ("car-store.43758382-562f-11e4-a088-c20493233aa5", "zinaz"),
        ] {
            assert_eq!(task_hash(id), hash, "{id}");
        }
    }
}
