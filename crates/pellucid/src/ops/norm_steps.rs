#![allow(missing_docs, unused)]
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::Result;
use crate::ops::norm::NormDims;

#[derive(Clone, Debug)]
pub struct NormScale {
    d: NormDims,
}
impl NormScale {
    pub fn new(d: NormDims, _e: f32, _c: bool) -> Result<Self> {
        Ok(Self { d })
    }
}
impl Op for NormScale {
    fn name(&self) -> &'static str {
        "NormScale"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.d.n * self.d.c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.d.n]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn forward(&self, _: Forward<'_>) -> Result<()> {
        Ok(())
    }
    fn backward(&self, _: Backward<'_>) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Normalise {
    d: NormDims,
}
impl Normalise {
    pub fn new(d: NormDims, _c: bool) -> Result<Self> {
        Ok(Self { d })
    }
}
impl Op for Normalise {
    fn name(&self) -> &'static str {
        "Normalise"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.d.n * self.d.c, self.d.n]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.d.n * self.d.c]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn forward(&self, _: Forward<'_>) -> Result<()> {
        Ok(())
    }
    fn backward(&self, _: Backward<'_>) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Affine {
    d: NormDims,
    b: bool,
}
impl Affine {
    pub fn new(d: NormDims, b: bool) -> Result<Self> {
        Ok(Self { d, b })
    }
}
impl Op for Affine {
    fn name(&self) -> &'static str {
        "Affine"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.d.n * self.d.c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.d.c; 1 + usize::from(self.b)]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.d.n * self.d.c]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn forward(&self, _: Forward<'_>) -> Result<()> {
        Ok(())
    }
    fn backward(&self, _: Backward<'_>) -> Result<()> {
        Ok(())
    }
}
