//! Wrong readings on purpose: what is said to hold must be seen to fail.

use super::site::Site;
use std::cell::RefCell;

/// Changes what is read at a site: how many sites are captured, and whether it is a gradient.
pub(crate) type Lie = Box<dyn Fn(Site, usize, bool, &mut [f32])>;

thread_local! {
    static LIE: RefCell<Option<Lie>> = const { RefCell::new(None) };
}

/// From here on this thread reads wrong; with none it reads right.
pub(crate) fn tell(lie: Option<Lie>) {
    LIE.with(|l| *l.borrow_mut() = lie);
}

pub(crate) fn told(site: Site, captured: usize, gradient: bool, mut x: Vec<f32>) -> Vec<f32> {
    LIE.with(|lie| {
        if let Some(lie) = &*lie.borrow() {
            lie(site, captured, gradient, &mut x);
        }
    });
    x
}
