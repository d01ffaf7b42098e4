//! Blocks of the package `gguf`, both ways.

use super::super::blocks::Stored;
use super::super::dequantise::dequantise;
use super::super::quantise::quantise;
use super::json;
use serde_json::Value;

fn bytes(hexadecimal: &Value) -> Vec<u8> {
    let digits = hexadecimal.as_str().unwrap().as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    digits.as_chunks::<2>().0.iter().map(|[a, b]| digit(*a) << 4 | digit(*b)).collect()
}

fn values(hexadecimal: &Value) -> Vec<f32> {
    let bytes = bytes(hexadecimal);
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn name(stored: Stored) -> &'static str {
    match stored {
        Stored::F32 => "F32",
        Stored::F16 => "F16",
        Stored::Bf16 => "BF16",
        Stored::Q4_0 => "Q4_0",
        Stored::Q4_1 => "Q4_1",
        Stored::Q5_0 => "Q5_0",
        Stored::Q5_1 => "Q5_1",
        Stored::Q8_0 => "Q8_0",
        Stored::Q4K => "Q4_K",
        Stored::Q5K => "Q5_K",
        Stored::Q6K => "Q6_K",
    }
}

#[test]
fn every_value_of_a_block_has_the_same_bits() {
    let golden = &json("blocks.json")["decode"];
    for stored in Stored::ALL {
        let one = &golden[name(stored)];
        let (blocks, wanted) = (bytes(&one["blocks"]), values(&one["values"]));
        assert!(wanted.len() >= 32 && stored.bytes(wanted.len()) == blocks.len());
        let mut found = vec![f32::NAN; wanted.len()];
        dequantise(stored, &blocks, &mut found);
        for (i, (a, b)) in found.iter().zip(&wanted).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "{stored:?}[{i}]: {a} and {b}");
        }
        assert_eq!(super::super::blocks::type_name(stored.number()), name(stored));
        assert_eq!(Stored::of(stored.number()), Some(stored));
    }
}

#[test]
fn every_byte_written_is_the_same() {
    let golden = &json("blocks.json")["encode"];
    for stored in [Stored::F32, Stored::F16, Stored::Bf16, Stored::Q8_0, Stored::Q4_0] {
        let one = &golden[name(stored)];
        let (wanted, values) = (bytes(&one["blocks"]), values(&one["values"]));
        let mut found = vec![];
        quantise(stored, &values, &mut found);
        assert_eq!(found, wanted, "{stored:?}");
    }
}
