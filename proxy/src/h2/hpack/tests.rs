//! RFC 7541 by section and appendix, and round trips.

use proptest::prelude::*;

use super::*;

type List = Vec<(String, String)>;

fn list(fields: &Fields) -> List {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<List, BlockError> {
    let mut fields = Fields::new(64 * 1024, 1000);
    decoder.decode(block, &mut fields)?;
    Ok(list(&fields))
}

fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn expect(decoder: &mut Decoder, block: &str, fields: &[(&str, &str)]) {
    let fields: List = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    assert_eq!(decode(decoder, &octets(block)), Ok(fields), "{block}");
}

#[test]
fn rfc7541_c_2_each_representation() {
    let new = || Decoder::new(TABLE_SIZE);
    expect(
        &mut new(),
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[("custom-key", "custom-header")],
    );
    expect(&mut new(), "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")]);
    expect(&mut new(), "1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")]);
    expect(&mut new(), "82", &[(":method", "GET")]);
}

/// Appendices C.3 (plain) and C.4 (Huffman): three requests on one connection.
#[test]
fn rfc7541_c_3_and_c_4_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(TABLE_SIZE);
        let (get, authority) = ((":method", "GET"), (":authority", "www.example.com"));
        expect(&mut decoder, blocks[0], &[get, (":scheme", "http"), (":path", "/"), authority]);
        let cache = ("cache-control", "no-cache");
        expect(&mut decoder, blocks[1], &[get, (":scheme", "http"), (":path", "/"), authority, cache]);
        let custom = ("custom-key", "custom-value");
        let (https, index) = ((":scheme", "https"), (":path", "/index.html"));
        expect(&mut decoder, blocks[2], &[get, https, index, authority, custom]);
    }
}

/// Appendices C.5 and C.6: three responses with a table of 256 octets, so that entries leave.
#[test]
fn rfc7541_c_5_and_c_6_responses() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(256);
        let (private, date) = (("cache-control", "private"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"));
        let location = ("location", "https://www.example.com");
        expect(&mut decoder, blocks[0], &[(":status", "302"), private, date, location]);
        expect(&mut decoder, blocks[1], &[(":status", "307"), private, date, location]);
        expect(
            &mut decoder,
            blocks[2],
            &[
                (":status", "200"),
                private,
                ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
                location,
                ("content-encoding", "gzip"),
                ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
            ],
        );
    }
}

#[test]
fn rfc7541_what_breaks_the_rules_is_refused() {
    for (block, why) in [
        ("80", "§6.1: index 0"),
        ("be", "§2.3.3: beyond both tables"),
        ("7f ff ff ff ff 0f", "§5.1: an integer that is too large"),
        ("82 20", "§4.2: a size update behind a field"),
        ("3f e2 1f", "§6.3: a size beyond the limit"),
        ("40", "a name that is missing"),
        ("4001 61", "a value that is missing"),
        ("4005 61", "a string that ends early"),
        ("0081 00 00", "§5.2: padding of zeros"),
        ("ff", "an integer that ends early"),
    ] {
        let refused = decode(&mut Decoder::new(TABLE_SIZE), &octets(block));
        assert_eq!(refused, Err(BlockError::Malformed), "{why}");
    }
}

#[test]
fn rfc7541_4_2_the_peer_may_make_its_table_smaller() {
    let mut decoder = Decoder::new(TABLE_SIZE);
    expect(&mut decoder, "4001 61 01 62", &[("a", "b")]);
    expect(&mut decoder, "be", &[("a", "b")]);
    expect(&mut decoder, "20 3f e1 1f", &[]);
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(BlockError::Malformed), "the entry has left");
}

#[test]
fn a_list_too_large_is_left_out_and_the_table_stays_right() {
    let mut decoder = Decoder::new(TABLE_SIZE);
    let mut fields = Fields::new(200, 100);
    let mut block = octets("4001 61 7f 21");
    block.extend_from_slice(&[b'v'; 160]);
    block.extend_from_slice(&octets("4001 62 01 63"));
    decoder.decode(&block, &mut fields).unwrap();
    assert!(fields.is_too_large());
    assert_eq!(list(&fields).len(), 1);
    expect(&mut decoder, "be", &[("b", "c")]);
}

#[test]
fn a_few_octets_that_stand_for_megabytes_are_refused() {
    let mut decoder = Decoder::new(TABLE_SIZE);
    let mut block = octets("4001 61 7f a1 1e");
    block.extend_from_slice(&[b'v'; 4000]);
    let mut fields = Fields::new(16 * 1024, 100);
    decoder.decode(&block, &mut fields).unwrap();
    fields.clear();
    assert_eq!(decoder.decode(&[0xbe; 10_000], &mut fields), Err(BlockError::Bomb));
    assert!(list(&fields).len() <= 4);
}

#[test]
fn rfc7541_6_2_3_what_came_as_never_to_be_indexed_goes_on_so() {
    let long = "n".repeat(100);
    for name in ["authorization", "cookie", "x-api-key", "via", &long] {
        let mut block = Vec::new();
        push_field(name.as_bytes(), b"secret", &mut block);
        assert_eq!(block[0] & 0xf0, 0x10, "{name}");
    }
    let mut block = Vec::new();
    push_named(4, b"/path?secret", &mut block);
    assert_eq!(block[0], 0x14);
    block.clear();
    push_status(418, &mut block);
    assert_eq!(block, b"\x18\x03418");
}

proptest! {
    #[test]
    fn decode_undoes_encode(
        fields in prop::collection::vec(("[a-z-]{1,70}", "[ -~]{0,300}"), 0..20),
        status in 100_u16..1000,
    ) {
        let mut block = Vec::new();
        push_status(status, &mut block);
        for (name, value) in &fields {
            push_field(name.to_ascii_uppercase().as_bytes(), value.as_bytes(), &mut block);
        }
        let mut expected = vec![(":status".to_owned(), status.to_string())];
        expected.extend(fields);
        prop_assert_eq!(decode(&mut Decoder::new(TABLE_SIZE), &block), Ok(expected));
    }

    #[test]
    fn arbitrary_blocks_end(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
        let mut decoder = Decoder::new(TABLE_SIZE);
        let mut fields = Fields::new(4096, 20);
        for block in blocks {
            fields.clear();
            if decoder.decode(&block, &mut fields).is_err() { break }
        }
    }
}
