#![allow(missing_docs, unused)]
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::Result;
use crate::ops::attention::{AttentionDims, Rule};

#[derive(Clone, Debug)]
pub struct Scores {
    d: AttentionDims,
    r: Rule,
    p: bool,
}
impl Scores {
    pub fn packed(d: AttentionDims, r: Rule) -> Result<Self> {
        Ok(Self { d, r, p: true })
    }
    pub fn apart(d: AttentionDims, r: Rule) -> Result<Self> {
        Ok(Self { d, r, p: false })
    }
}
impl Op for Scores {
    fn name(&self) -> &'static str {
        "Scores"
    }
    fn inputs(&self) -> Vec<usize> {
        let d = self.d;
        if self.p {
            vec![d.b * d.t * (d.h + 2 * d.kv) * d.d]
        } else {
            vec![d.b * d.t * d.h * d.d, d.b * d.s * 2 * d.kv * d.d]
        }
    }
    fn ints(&self) -> Vec<usize> {
        if self.r.mask.padding { vec![self.d.b] } else { vec![] }
    }
    fn params(&self) -> Vec<usize> {
        self.r.bias.iter().map(|b| b.buckets * self.d.h).collect()
    }
    fn outputs(&self) -> Vec<usize> {
        let d = self.d;
        vec![d.b * d.h * d.t * d.s]
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
pub struct Softmax {
    n: usize,
    s: usize,
}
impl Softmax {
    pub fn new(n: usize, s: usize) -> Result<Self> {
        Ok(Self { n, s })
    }
}
impl Op for Softmax {
    fn name(&self) -> &'static str {
        "Softmax"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.s]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n * self.s]
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
pub struct Mix {
    d: AttentionDims,
    p: bool,
}
impl Mix {
    pub fn packed(d: AttentionDims) -> Result<Self> {
        Ok(Self { d, p: true })
    }
    pub fn apart(d: AttentionDims) -> Result<Self> {
        Ok(Self { d, p: false })
    }
}
impl Op for Mix {
    fn name(&self) -> &'static str {
        "Mix"
    }
    fn inputs(&self) -> Vec<usize> {
        let d = self.d;
        vec![
            d.b * d.h * d.t * d.s,
            if self.p { d.b * d.t * (d.h + 2 * d.kv) * d.d } else { d.b * d.s * 2 * d.kv * d.d },
        ]
    }
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        let d = self.d;
        vec![d.b * d.t * d.h * d.d]
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
