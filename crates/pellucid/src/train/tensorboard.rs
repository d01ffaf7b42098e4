//! Scalars in TensorBoard's event files, written by hand: TFRecord framing around a few protocol-buffer fields.
//!
//! Record: length (u64), masked CRC32C of the length, data, masked CRC32C of the data, all little-endian.
//! Event: 1 wall time (double), 2 step (int64), 3 file version (string), 5 summary, 7 session log.
//! Summary: repeated 1 value; value: 1 tag (string), 2 simple value (float).

use super::disk::{Appender, Disk};
use crate::error::Result;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An open event file.
#[derive(Debug)]
pub struct Events(Appender);

impl Events {
    /// Starts a new file in `folder`. Events of earlier files at `step` or beyond are hidden by TensorBoard.
    pub fn create(disk: &Disk, folder: &Path, step: u64) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Files are read in the order of their names.
        let name = format!(
            "events.out.tfevents.{:010}.pellucid.{}.{:09}",
            now.as_secs(),
            std::process::id(),
            now.subsec_nanos()
        );
        let mut events = Self(disk.open_append(&folder.join(name), 0)?.0);
        let mut version = event(0);
        field_bytes(&mut version, 3, b"brain.Event:2");
        disk.append(&mut events.0, &record(&version))?;
        let mut start = event(step);
        // SessionLog { 1 status: START = 1 }
        field_bytes(&mut start, 7, &[0x08, 0x01]);
        disk.append(&mut events.0, &record(&start))?;
        Ok(events)
    }

    /// Appends scalars at a step.
    pub fn append(&mut self, disk: &Disk, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        disk.append(&mut self.0, &record(&scalar_event(step, scalars)))
    }
}

fn scalar_event(step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let mut inner = Vec::new();
        field_bytes(&mut inner, 1, tag.as_bytes());
        inner.push(2 << 3 | 5);
        inner.extend((*value as f32).to_le_bytes());
        field_bytes(&mut summary, 1, &inner);
    }
    let mut out = event(step);
    field_bytes(&mut out, 5, &summary);
    out
}

fn event(step: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut out = vec![1 << 3 | 1];
    out.extend(now.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    out
}

/// A length-delimited field.
fn field_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, lowest first, the high bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked(data).to_le_bytes());
    out
}

/// TFRecord masks checksums, because a checksum of data that contain checksums is weak.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's polynomial, bit-reversed: 0x82f63b78.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, b| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ b)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the usual check word.
    #[test]
    fn crc32c_gives_the_published_words() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    #[test]
    fn a_file_is_a_chain_of_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let mut events = Events::create(&disk, folder.path(), 5).unwrap();
        events.append(&disk, 300, &[("loss", 1.5), ("lr", 0.25)]).unwrap();
        let name = disk.list(folder.path()).unwrap().remove(0);
        assert!(name.starts_with("events.out.tfevents."));
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(masked(&bytes[at..at + 8]).to_le_bytes(), bytes[at + 8..at + 12]);
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!(masked(data).to_le_bytes(), bytes[at + 12 + length..at + 16 + length]);
            records.push(data.to_vec());
            at += 16 + length;
        }
        assert_eq!(records.len(), 3);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert_eq!(records[1][9..], [0x10, 5, 0x3a, 2, 8, 1]);
        // step 300; a summary of 24 bytes: value { "loss", 1.5f32 }, value { "lr", 0.25f32 }
        let mut expected = vec![0x10, 0xac, 0x02, 0x2a, 24, 0x0a, 11, 0x0a, 4];
        expected.extend(b"loss\x15\0\0\xc0\x3f\x0a\x09\x0a\x02lr\x15\0\0\x80\x3e");
        assert_eq!(records[2][9..], expected);
    }
}
