//! What PyTorch says (`tests/golden/ops.json`, written by `make_ops.py`) against the operations as shipped.

use super::activation::{Activate, Activation};
use super::attention::{AttentionDims, Mask, Rule, SelfAttention};
use super::cross_entropy::LinearCrossEntropy;
use super::embedding::{Embedding, Positions};
use super::harness::{Produced, Values, produce};
use super::linear::Linear;
use super::low_rank::LowRank;
use super::norm::{LayerNorm, NormDims, RmsNorm};
use super::rotary::{Dims, Rotary, Scaling, Style, Table};
use crate::autograd::{Op, RunInfo};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use serde_json::Value;

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn lists(v: &Value) -> Vec<Vec<f64>> {
    v.as_array().expect("a list of lists").iter().map(numbers).collect()
}

/// Settings of one case.
struct Settings<'a>(&'a Value);

impl Settings<'_> {
    fn size(&self, name: &str) -> usize {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} in {}", self.0["name"])) as usize
    }
    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("{name} in {}", self.0["name"]))
    }
    fn activation(&self) -> Option<Activation> {
        serde_json::from_value(self.0["activation"].clone()).expect("activation")
    }

    fn rotary(&self) -> Rotary {
        let scaling = match &self.0["scaling"] {
            Value::Null => Scaling::None,
            s => Scaling::Llama3 {
                factor: Settings(s).number("factor"),
                low_frequency: Settings(s).number("low_frequency"),
                high_frequency: Settings(s).number("high_frequency"),
                original: Settings(s).size("original"),
            },
        };
        let table = Table::new(self.size("rotary"), self.number("theta"), scaling, 512).unwrap();
        let dims = Dims {
            b: self.size("b"),
            t: self.size("t"),
            row: self.size("row"),
            first: 0,
            heads: self.size("heads"),
            width: self.size("width"),
        };
        let style = if self.0["style"] == "half" { Style::Half } else { Style::Interleaved };
        Rotary::new(dims, style, table).unwrap()
    }

    fn op(&self) -> Box<dyn Op> {
        let name = self.0["name"].as_str().unwrap();
        match name.split('/').next().unwrap() {
            "activation" => {
                Box::new(Activate::new(self.size("n"), self.activation().unwrap()).unwrap())
            }
            "norm" => {
                let dims = NormDims { n: self.size("n"), c: self.size("c") };
                let eps = self.number("eps") as f32;
                match name {
                    "norm/rms" => Box::new(RmsNorm::new(dims, eps).unwrap()),
                    _ => Box::new(LayerNorm::new(dims, eps, true).unwrap()),
                }
            }
            "rotary" => Box::new(self.rotary()),
            "attention" => {
                let [b, t, h, kv, d] = ["b", "t", "h", "kv", "d"].map(|name| self.size(name));
                let dims = AttentionDims { b, t, s: t, h, kv, d };
                let rule = Rule::new(Mask::CAUSAL, d);
                Box::new(SelfAttention::new(dims, rule).unwrap())
            }
            "embedding" => Box::new(Embedding::new(
                self.size("b"),
                self.size("t"),
                self.size("c"),
                self.size("vocab"),
                Positions::Learned { max: self.size("max") },
                self.number("scale") as f32,
            )),
            "cross_entropy" => Box::new(LinearCrossEntropy {
                bias: self.0["bias"].as_bool().unwrap(),
                smoothing: self.number("smoothing") as f32,
                z_loss: self.number("z_loss") as f32,
                ignore: self.number("ignore") as i32,
                rows: 4,
                columns: 3,
                ..LinearCrossEntropy::new(self.size("n"), self.size("c"), self.size("v"))
            }),
            "linear" => Box::new(Linear {
                bias: self.0["bias"].as_bool().unwrap(),
                activation: self.activation(),
                residual: self.0["residual"].as_bool().unwrap(),
                ..Linear::new(self.size("n"), self.size("i"), self.size("o"))
            }),
            "low_rank" => {
                let sizes = (self.size("i"), self.size("o"));
                let first = self.size("first");
                let columns = first..first + self.size("columns");
                let factors = (self.size("rank"), self.number("scale") as f32);
                let op = LowRank::new(self.size("n"), sizes, columns, factors, Precision::F32);
                Box::new(op.unwrap())
            }
            other => panic!("no operation for golden case {other}"),
        }
    }
}

/// The first tensor of `got` that is not what PyTorch says.
fn judge(case: &Value, got: &Produced) -> Result<(), String> {
    let groups =
        [("outputs", &got.outputs), ("d_inputs", &got.d_inputs), ("d_params", &got.d_params)];
    for (group, got) in groups {
        let want = lists(&case[group]);
        if want.len() != got.len() {
            return Err(format!(
                "{}: {} {group}, PyTorch has {}",
                case["name"],
                got.len(),
                want.len()
            ));
        }
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let largest = want.iter().fold(1e-3f64, |m, w| m.max(w.abs()));
            let close = |(g, w): (&f32, &f64)| (f64::from(*g) - w).abs() <= 4e-6 * largest;
            if got.len() != want.len() || !got.iter().zip(want).all(close) {
                return Err(format!(
                    "{}: {group} {i} is {got:?}, PyTorch says {want:?}",
                    case["name"]
                ));
            }
        }
    }
    Ok(())
}

fn run(case: &Value) -> Produced {
    let op = Settings(case).op();
    let ints = lists(&case["ints"]).into_iter().map(|l| l.into_iter().map(|x| x as i32).collect());
    let values = Values {
        inputs: lists(&case["inputs"]),
        params: lists(&case["params"]),
        ints: ints.collect(),
    };
    let mut d_outputs = vec![numbers(&case["d_output"])];
    d_outputs.extend(op.outputs().iter().skip(1).map(|n| vec![0.0; *n]));
    let run = RunInfo { grad_scale: 1.0, ..RunInfo::default() };
    produce(op.as_ref(), &values, &d_outputs, run, &Pool::new(2), None)
}

#[test]
fn operations_agree_with_pytorch() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/ops.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 23);
    for case in cases {
        let produced = run(case);
        judge(case, &produced).unwrap();
        // Seen to fail: any one tensor a little off, or NaN, is caught.
        for spoil in [1.001f32, f32::NAN] {
            let mut wrong = produced.clone();
            let tensors = [&mut wrong.outputs, &mut wrong.d_inputs, &mut wrong.d_params];
            let last = tensors.into_iter().flatten().last().unwrap();
            last.iter_mut().for_each(|x| *x *= spoil);
            assert!(judge(case, &wrong).is_err(), "{}: a spoiled tensor passed", case["name"]);
        }
    }
}
