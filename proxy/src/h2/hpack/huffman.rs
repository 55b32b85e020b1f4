//! The Huffman code of RFC 7541 appendix B, decoded by table. Nothing here encodes: raw strings cost the peer
//! less than coding them costs us.

/// Bits of the code of each octet, and of the end of string. The code is canonical: the lengths say it all.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Octets whose code is at most this long are found by one look into a table.
const SHORT: u32 = 8;
const LONGEST: usize = 30;
/// Place of the end of string in the code.
const END: u16 = 256;

/// The code as a decoder needs it.
struct Code {
    /// By the next [`SHORT`] bits: the octet, and the length of its code; length 0 if that is longer.
    short: [(u8, u8); 1 << SHORT],
    /// For each length: the first code.
    first: [u32; LONGEST + 1],
    /// For each length: how many codes.
    count: [u32; LONGEST + 1],
    /// For each length: where its first symbol stands in `symbols`.
    offset: [u32; LONGEST + 1],
    /// By length of their code, then by value.
    symbols: [u16; 257],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        short: [(0, 0); 1 << SHORT],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        offset: [0; LONGEST + 1],
        symbols: [0; 257],
    };
    let (mut length, mut next, mut placed) = (1, 0_u32, 0);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.offset[length] = placed;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed as usize] = symbol as u16;
                code = with_short(code, symbol, length as u32, next);
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.count[length] = placed - code.offset[length];
        length += 1;
    }
    code
}

/// Every number of [`SHORT`] bits that begins with the code of `symbol` leads to it.
const fn with_short(mut code: Code, symbol: usize, length: u32, bits: u32) -> Code {
    if length <= SHORT {
        let mut at = bits << (SHORT - length);
        let end = (bits + 1) << (SHORT - length);
        while at < end {
            code.short[at as usize] = (symbol as u8, length as u8);
            at += 1;
        }
    }
    code
}

/// The octets are not a Huffman-coded string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends what `coded` stands for to `out`: at most eight fifths of its octets.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut octets = coded.iter();
    loop {
        while count <= 56 {
            let Some(octet) = octets.next() else { break };
            bits |= u64::from(*octet) << (56 - count);
            count += 8;
        }
        if count == 0 {
            return Ok(());
        }
        let (symbol, length) = CODE.short[(bits >> (64 - SHORT)) as usize];
        let (symbol, length) = match u32::from(length) {
            0 => match long(bits) {
                Some(found) => found,
                None => return end_of(bits, count),
            },
            length => (symbol, length),
        };
        if length > count {
            return end_of(bits, count);
        }
        out.push(symbol);
        bits <<= length;
        count -= length;
    }
}

/// The octet whose long code `bits` begins with.
fn long(bits: u64) -> Option<(u8, u32)> {
    for length in SHORT as usize + 1..=LONGEST {
        let code = (bits >> (64 - length)) as u32;
        let place = code.wrapping_sub(CODE.first[length]);
        if place < CODE.count[length] {
            let symbol = CODE.symbols[(CODE.offset[length] + place) as usize];
            // §5.2: the end of string itself must not stand in a string.
            return (symbol != END).then_some((symbol as u8, length as u32));
        }
    }
    None
}

/// §5.2: what is left must be fewer than eight bits, all of them ones.
fn end_of(bits: u64, count: u32) -> Result<(), Malformed> {
    if count < 8 && bits >> (64 - count) == (1 << count) - 1 { Ok(()) } else { Err(Malformed) }
}

/// The coded form, for tests: what the peers send.
#[cfg(test)]
pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0_u32);
    for octet in plain {
        let length = LENGTHS[usize::from(*octet)] as usize;
        let from = CODE.offset[length] as usize;
        let at = CODE.symbols[from..].iter().position(|symbol| *symbol == u16::from(*octet)).unwrap();
        bits = bits << length | u64::from(CODE.first[length] + at as u32);
        count += length as u32;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn rfc7541_c_4_strings() {
        for (coded, plain) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
        ] {
            assert_eq!(decoded(coded).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn rfc7541_5_2_padding_is_short_and_of_ones() {
        assert_eq!(decoded(&[]), Ok(Vec::new()));
        assert_eq!(decoded(&[0xff]), Err(Malformed), "eight bits of padding");
        assert_eq!(decoded(&[0b0001_1000]), Err(Malformed), "'a' and zeros");
        assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
        assert_eq!(decoded(&[0xff; 4]), Err(Malformed), "the end of string");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc, 0x1f]), Err(Malformed), "the end of string within");
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(plain in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut coded = Vec::new();
            encode(&plain, &mut coded);
            prop_assert_eq!(decoded(&coded), Ok(plain));
        }
    }
}
