#![allow(missing_docs, unused)]
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::Result;

#[derive(Clone, Debug)]
pub struct HeadResults {
    n: usize,
    h: usize,
    d: usize,
    c: usize,
}
impl HeadResults {
    pub fn new(n: usize, h: usize, d: usize, c: usize) -> Result<Self> {
        Ok(Self { n, h, d, c })
    }
}
impl Op for HeadResults {
    fn name(&self) -> &'static str {
        "HeadResults"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.h * self.d]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.c * self.h * self.d]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n * self.h * self.c]
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
pub struct SumHeads {
    n: usize,
    h: usize,
    c: usize,
    b: bool,
}
impl SumHeads {
    pub fn new(n: usize, h: usize, c: usize, b: bool) -> Result<Self> {
        Ok(Self { n, h, c, b })
    }
}
impl Op for SumHeads {
    fn name(&self) -> &'static str {
        "SumHeads"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.h * self.c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        if self.b { vec![self.c] } else { vec![] }
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n * self.c]
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
