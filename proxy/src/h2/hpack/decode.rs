//! From a header block to fields (RFC 7541 §6).

use super::fields::Fields;
use super::huffman;
use super::table::{Dynamic, STATIC};

/// Why a block can't be read. The table is then not what the peer thinks: the connection is lost (RFC 9113 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    /// It breaks the rules.
    #[error("malformed header block")]
    Malformed,
    /// It stands for far more than was allowed.
    #[error("header list far beyond the limit")]
    Bomb,
}

const MALFORMED: BlockError = BlockError::Malformed;

/// The decoding side of a connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Dynamic,
    size_max: usize,
}

impl Decoder {
    /// `size_max` is what SETTINGS_HEADER_TABLE_SIZE allows the peer.
    pub(crate) const fn new(size_max: usize) -> Self {
        Self { table: Dynamic::new(size_max), size_max }
    }

    /// Appends the fields of a whole block. What is too much for `fields` is decoded all the same, for the table
    /// must stay the peer's.
    pub(crate) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), BlockError> {
        let mut rest = block;
        let mut has_field = false;
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => self.indexed(take_integer(&mut rest, 7)?, fields)?,
                0x40.. => self.literal(take_integer(&mut rest, 6)?, true, &mut rest, fields)?,
                // §4.2: the size changes at the beginning of a block.
                0x20.. if has_field => return Err(MALFORMED),
                0x20.. => {
                    let size = take_integer(&mut rest, 5)?;
                    if size > self.size_max {
                        return Err(MALFORMED);
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => self.literal(take_integer(&mut rest, 4)?, false, &mut rest, fields)?,
            }
            if fields.is_bomb() {
                return Err(BlockError::Bomb);
            }
            has_field = true;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), BlockError> {
        let index = index.checked_sub(1).ok_or(MALFORMED)?;
        match STATIC.get(index) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.table.entry(index - STATIC.len()).ok_or(MALFORMED),
        }
    }

    fn indexed(&self, index: usize, fields: &mut Fields) -> Result<(), BlockError> {
        let (name, value) = self.entry(index)?;
        fields.push(name, value);
        Ok(())
    }

    /// §6.2. The strings are decoded in place: in the list, of which they are taken off if they are too much.
    fn literal(
        &mut self,
        index: usize,
        is_indexed: bool,
        rest: &mut &[u8],
        fields: &mut Fields,
    ) -> Result<(), BlockError> {
        let start = fields.text().len();
        if index == 0 {
            take_string(rest, fields.text())?;
        } else {
            fields.text().extend_from_slice(self.entry(index)?.0);
        }
        let value = fields.text().len();
        take_string(rest, fields.text())?;
        if is_indexed {
            let (name, value) = fields.text()[start..].split_at(value - start);
            self.table.insert(name, value);
        }
        fields.close(start, value);
        Ok(())
    }
}

/// §5.1. Values beyond 2^28 mean nothing here.
fn take_integer(rest: &mut &[u8], prefix: u32) -> Result<usize, BlockError> {
    let (&first, mut octets) = rest.split_first().ok_or(MALFORMED)?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&octet, behind) = octets.split_first().ok_or(MALFORMED)?;
            octets = behind;
            if shift > 21 {
                return Err(MALFORMED);
            }
            value += usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet < 0x80 {
                break;
            }
        }
    }
    *rest = octets;
    Ok(value)
}

/// §5.2.
fn take_string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BlockError> {
    let is_coded = *rest.first().ok_or(MALFORMED)? >= 0x80;
    let length = take_integer(rest, 7)?;
    let (string, behind) = rest.split_at_checked(length).ok_or(MALFORMED)?;
    *rest = behind;
    if is_coded {
        return huffman::decode(string, out).map_err(|huffman::Malformed| MALFORMED);
    }
    out.extend_from_slice(string);
    Ok(())
}
