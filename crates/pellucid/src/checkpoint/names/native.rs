//! Our own names, for architectures no other family has.

use super::{Piece, whole};
use crate::model::config::Config;
use crate::model::weights::parameters;

pub(super) fn pieces(config: &Config) -> Vec<Piece> {
    parameters(config).into_iter().map(|s| whole(s.name.clone(), s.shape, s.name)).collect()
}
