//! Results as they go over the wire.

use crate::message::Response;
use crate::state::{Outcome, Task};
use tinkex_protocol::{DType, ForwardBackwardOutput, LeVec, Map, SampleResponse, Tensor};

/// The name of what a loss gives per datum.
const OUTPUT_TYPE: &str = "ArrayRecord";

/// The result of a forward pass: the log-probabilities in the shape of the targets, and the loss, summed.
pub(crate) fn pass(logprobs: Vec<Vec<f32>>, shapes: Vec<Vec<usize>>, loss: f64) -> Result<Outcome, String> {
    if !loss.is_finite() {
        return Err(format!("the loss is {loss}; lower the learning rate, or go back to a checkpoint"));
    }
    let output = |(logprobs, shape): (Vec<f32>, Vec<usize>)| {
        let tensor = Tensor::from_bytes(DType::Float32, shape, LeVec::from(logprobs).into_bytes())?;
        Ok(Map::from_iter([("logprobs".to_owned(), tensor)]))
    };
    let outputs: Result<_, tinkex_protocol::Error> = logprobs.into_iter().zip(shapes).map(output).collect();
    let result = ForwardBackwardOutput {
        loss_fn_output_type: OUTPUT_TYPE.into(),
        loss_fn_outputs: outputs.map_err(|error| error.to_string())?,
        metrics: Map::from_iter([("loss:sum".to_owned(), loss)]),
    };
    let bytes = result.encode().map_err(|error| error.to_string())?;
    Ok(Outcome::Protobuf(bytes.into()))
}

/// A result kept as protobuf, for a client of the JSON dialect.
pub(crate) fn in_json(task: &Task, body: &[u8]) -> Response {
    let response = match task {
        Task::Sample { .. } => SampleResponse::decode(body).map(|result| Response::json(&result)),
        _ => ForwardBackwardOutput::decode(body, usize::MAX).map(|result| Response::json(&result)),
    };
    response
        .unwrap_or_else(|error| Response::error(500, format!("a result of our own can't be read: {error}")))
}
