//! The base models that are served, by name.

use crate::message::Refusal;
use crate::tokenizer::Tokenizer;
use std::sync::Arc;
use tinkex_model::BaseModel;

/// The shipped, pretrained model.
pub const SANDBOX: &str = "tinkex/sandbox-1m";
/// Does no work: for benchmarks of everything around a model.
pub const NOOP: &str = "tinkex/noop";
/// One layer with random weights: for simulations.
pub const TINY: &str = "tinkex/tiny";

/// Where the tiny model's random weights begin: any number, and always this one.
const TINY_SEED: u64 = 1;

/// What is served. Cheap to clone.
#[derive(Clone)]
pub struct Bases {
    models: Arc<[(&'static str, BaseModel)]>,
    tokenizer: Arc<Tokenizer>,
}

impl Bases {
    /// All three.
    ///
    /// # Errors
    /// When the tokenizer that was built in can't be read.
    pub fn shipped() -> Result<Self, String> {
        let models =
            [(SANDBOX, BaseModel::shipped()), (NOOP, BaseModel::noop()), (TINY, BaseModel::tiny(TINY_SEED))];
        Ok(Self { models: models.into(), tokenizer: Arc::new(Tokenizer::shipped()?) })
    }

    pub(crate) fn get(&self, name: &str) -> Result<BaseModel, Refusal> {
        let found = self.models.iter().find(|(served, _)| *served == name);
        found.map(|(_, model)| model.clone()).ok_or_else(|| {
            let served = self.names().collect::<Vec<_>>().join(", ");
            Refusal::new(400, format!("base_model {name:?} is not served here. Served are: {served}."))
        })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.models.iter().map(|(name, _)| *name)
    }

    pub(crate) fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}
