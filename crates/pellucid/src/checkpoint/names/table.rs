//! What tables are written with.

use super::{Piece, Place};
use crate::model::config::Config;

/// A growing table.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) Vec<Piece>);

impl Table {
    /// Our whole parameter under a foreign name.
    pub(super) fn whole(
        &mut self,
        foreign: impl Into<String>,
        shape: &[usize],
        ours: impl Into<String>,
    ) {
        self.0.push(super::whole(foreign.into(), shape.to_vec(), ours.into()));
    }

    /// Another name of our parameter.
    pub(super) fn alias(&mut self, foreign: impl Into<String>, shape: &[usize], ours: &str) {
        let place = Place::Alias(ours.into());
        self.0.push(Piece { name: foreign.into(), shape: shape.to_vec(), place });
    }

    /// `.weight` (rows, columns), and `.bias` if there is one, of rows from `first` on of ours.
    pub(super) fn rows(
        &mut self,
        foreign: &str,
        (rows, columns): (usize, usize),
        (ours, first): (&str, usize),
        bias: bool,
    ) {
        let place = |kind: &str| Place::Rows(format!("{ours}.{kind}"), first..first + rows);
        let (name, shape) = (format!("{foreign}.weight"), vec![rows, columns]);
        self.0.push(Piece { name, shape, place: place("weight") });
        if bias {
            let (name, shape) = (format!("{foreign}.bias"), vec![rows]);
            self.0.push(Piece { name, shape, place: place("bias") });
        }
    }

    /// A whole linear layer.
    pub(super) fn linear(&mut self, foreign: &str, size: (usize, usize), ours: &str, bias: bool) {
        self.rows(foreign, size, (ours, 0), bias);
    }

    /// A norm of `c` elements, with or without a bias.
    pub(super) fn norm(&mut self, foreign: &str, c: usize, ours: &str, bias: bool) {
        self.whole(format!("{foreign}.weight"), &[c], format!("{ours}.weight"));
        if bias {
            self.whole(format!("{foreign}.bias"), &[c], format!("{ours}.bias"));
        }
    }

    /// Queries, keys and values that are three layers there and one here.
    pub(super) fn qkv(
        &mut self,
        config: &Config,
        foreign: &str,
        names: [&str; 3],
        ours: &str,
        bias: bool,
    ) {
        let (c, q) = (config.width, config.heads * config.head_width);
        let kv = config.kv_heads * config.head_width;
        for (name, rows, first) in [(names[0], q, 0), (names[1], kv, q), (names[2], kv, q + kv)] {
            self.rows(&format!("{foreign}.{name}"), (rows, c), (ours, first), bias);
        }
    }

    /// Cross-attention: queries of the decoder, keys and values of the encoder.
    pub(super) fn cross(
        &mut self,
        config: &Config,
        foreign: &str,
        names: [&str; 4],
        ours: &str,
        bias: bool,
    ) {
        let (c, q) = (config.width, config.heads * config.head_width);
        let kv = config.kv_heads * config.head_width;
        let own = format!("{ours}.kv");
        self.linear(&format!("{foreign}.{}", names[0]), (q, c), &format!("{ours}.q"), bias);
        self.rows(&format!("{foreign}.{}", names[1]), (kv, c), (&own, 0), bias);
        self.rows(&format!("{foreign}.{}", names[2]), (kv, c), (&own, kv), bias);
        self.linear(&format!("{foreign}.{}", names[3]), (c, q), &format!("{ours}.out"), bias);
    }
}
