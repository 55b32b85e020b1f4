//! Entry points for the fuzz targets in `proxy/fuzz`: the decoders of outside octets, with what must hold of them.
//! Not for programs. Their corpora are replayed by the tests below.

use crate::config::Limits;
use crate::h2;
use crate::l7::oracle;

/// A request head, whole and octet by octet; what is let through must read the same after it was rewritten.
///
/// # Panics
/// If it does not hold.
pub fn request_head(octets: &[u8]) {
    oracle::request_head(octets, &Limits::default());
}

/// A response head, rewritten for each kind of client.
///
/// # Panics
/// If what is passed on does not read as what came.
pub fn response_head(octets: &[u8]) {
    oracle::response_head(octets);
}

/// A chunked body, whole and octet by octet.
///
/// # Panics
/// If the two differ.
pub fn chunked(octets: &[u8]) {
    oracle::chunked(octets);
}

/// What a client of HTTP/2 sends, preface included, whole and octet by octet.
///
/// # Panics
/// If the two differ, or if answers are out of proportion.
pub fn http2(octets: &[u8]) {
    h2::oracle::server(octets);
}

/// What an endpoint sends that speaks HTTP/2, whole and octet by octet.
///
/// # Panics
/// If the two differ, or if answers are out of proportion.
pub fn http2_endpoint(octets: &[u8]) {
    h2::oracle::client(octets);
}

#[cfg(test)]
mod tests {
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let case = std::fs::read(entry.unwrap().path()).unwrap();
            run(&case);
            let mut random = fastrand::Rng::with_seed(count);
            for _ in 0..200 {
                run(&mutated(&case, &mut random));
            }
            count += 1;
        }
        assert!(count > 5, "{folder} holds {count} cases");
    }

    /// A case with one to three octets changed, taken out, or doubled.
    fn mutated(case: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
        const TELLING: &[u8] = b"\r\n\t :,;0159afAF/.\0\x0b\x7f\xffchunked";
        let mut octets = case.to_vec();
        for _ in 0..random.usize(1..4) {
            if octets.is_empty() {
                break;
            }
            let at = random.usize(..octets.len());
            match random.u8(..4) {
                0 => octets[at] = TELLING[random.usize(..TELLING.len())],
                1 => octets.insert(at, TELLING[random.usize(..TELLING.len())]),
                2 => drop(octets.remove(at)),
                _ => octets.insert(at, octets[at]),
            }
        }
        octets
    }

    #[test]
    fn the_corpus_of_request_heads() {
        replay("request_head", super::request_head);
    }

    #[test]
    fn the_corpus_of_response_heads() {
        replay("response_head", super::response_head);
    }

    #[test]
    fn the_corpus_of_chunked_bodies() {
        replay("chunked", super::chunked);
    }

    #[test]
    fn the_corpus_of_http2() {
        replay("http2", super::http2);
    }

    #[test]
    fn the_corpus_of_http2_endpoints() {
        replay("http2_endpoint", super::http2_endpoint);
    }
}
