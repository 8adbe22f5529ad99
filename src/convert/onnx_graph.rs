//! An ONNX graph as it grows: operations one after the other, constants by name.

use std::collections::HashSet;

use candle_core::{Result, Tensor};

use super::proto::{
    Attribute, Constant, Dimension, FLOAT, FLOAT_ATTRIBUTE, Graph, INT_ATTRIBUTE, INT64,
    INTS_ATTRIBUTE, Model, Node, OperatorSet, Shape, Size, TensorType, Type, ValueInfo,
};

/// Version of the file's layout and of its operations: those of ONNX 1.12, which runtimes have
/// read since 2022.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// A graph under construction. Values are known by their names.
#[derive(Default)]
pub(super) struct Builder {
    graph: Graph,
    /// Names of the constants that are there.
    constants: HashSet<String>,
}

pub(super) fn float(name: &str, value: f64) -> Attribute {
    let name = name.to_owned();
    Attribute { name, f: value as f32, kind: FLOAT_ATTRIBUTE, ..Attribute::default() }
}

pub(super) fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.to_owned(), i: value, kind: INT_ATTRIBUTE, ..Attribute::default() }
}

pub(super) fn ints(name: &str, values: &[i64]) -> Attribute {
    let (name, ints) = (name.to_owned(), values.to_vec());
    Attribute { name, ints, kind: INTS_ATTRIBUTE, ..Attribute::default() }
}

impl Builder {
    /// An operation with one result, whose name is returned.
    pub(super) fn op(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attribute: Vec<Attribute>,
    ) -> String {
        let name = format!("{}_{}", op_type.to_lowercase(), self.graph.node.len());
        self.graph.node.push(Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op_type.to_owned(),
            attribute,
        });
        name
    }

    /// A constant; one of the same name is kept.
    pub(super) fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let dims = tensor.dims().iter().map(|dim| *dim as i64).collect();
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(self.constant(Constant { dims, data_type: FLOAT, name: name.to_owned(), raw_data }))
    }

    /// A constant number.
    pub(super) fn scalar(&mut self, value: f64) -> String {
        let value = value as f32;
        let raw_data = value.to_le_bytes().to_vec();
        let name = format!("value_{value:e}");
        self.constant(Constant { dims: Vec::new(), data_type: FLOAT, name, raw_data })
    }

    /// A constant row of whole numbers.
    pub(super) fn numbers(&mut self, values: &[i64]) -> String {
        let name = format!("shape_{values:?}");
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        self.constant(Constant { dims, data_type: INT64, name, raw_data })
    }

    fn constant(&mut self, constant: Constant) -> String {
        let name = constant.name.clone();
        if self.constants.insert(name.clone()) {
            self.graph.initializer.push(constant);
        }
        name
    }

    /// An input; a dimension that is none is the number of pictures.
    pub(super) fn input(&mut self, name: &str, dims: &[Option<i64>]) {
        self.graph.input.push(value_info(name, dims));
    }

    /// An output, dimensions as in [`Builder::input`].
    pub(super) fn output(&mut self, name: &str, dims: &[Option<i64>]) {
        self.graph.output.push(value_info(name, dims));
    }

    /// Gives the result of an operation that no other uses another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        for node in &mut self.graph.node {
            for name in node.output.iter_mut().filter(|name| *name == from) {
                to.clone_into(name);
            }
        }
    }

    pub(super) fn into_model(mut self) -> Model {
        "stylegan2 generator".clone_into(&mut self.graph.name);
        Model {
            ir_version: IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        }
    }
}

fn value_info(name: &str, dims: &[Option<i64>]) -> ValueInfo {
    let size = |dim: &Option<i64>| dim.map_or(Size::Named("n".to_owned()), Size::Fixed);
    let dim = dims.iter().map(|dim| Dimension { size: Some(size(dim)) }).collect();
    let tensor = TensorType { element: FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}
