//! The frozen weights that adapters are trained on.

use crate::bytes::{self, Reader, Writer};
use crate::config::{BaseLayout, ModelConfig};
use crate::engine::matrices::{Network, Rotation};
use crate::pretraining::initial_weights;
use crate::sampling::Weights;
use crate::{Error, noop};
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"TXBM";
const VERSION: u32 = 1;

/// A base model. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BaseModel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ModelConfig,
    hash: u64,
    /// None: the model that does no work.
    network: Option<Arc<Network<f32>>>,
}

impl BaseModel {
    /// Reads a model file, as `Pretraining::to_bytes` makes it.
    ///
    /// # Errors
    /// `Malformed` for anything else, or a damaged one.
    pub fn from_bytes(bytes: &[u8]) -> Result<BaseModel, Error> {
        let mut reader = Reader::new("model", MAGIC, VERSION, bytes)?;
        let config = ModelConfig {
            vocabulary: reader.size()?,
            d: reader.size()?,
            layers: reader.size()?,
            heads: reader.size()?,
            ff: reader.size()?,
            context: reader.size()?,
        };
        config.check()?;
        let weights = reader.f16s(BaseLayout::new(&config).size)?;
        reader.end()?;
        Ok(BaseModel::from_weights(config, &weights))
    }

    /// The pretrained model that comes with this crate; `docs/sandbox-model.md` tells of what it was made.
    #[cfg(feature = "shipped")]
    pub fn shipped() -> BaseModel {
        const FILE: &[u8] = include_bytes!("../base-model.bin");
        BaseModel::from_bytes(FILE).expect("the committed model file is whole, as a test checks")
    }

    /// One layer of width 16, vocabulary 1,024, random weights from `seed`: for simulations, which need real training but
    /// no good model.
    pub fn tiny(seed: u64) -> BaseModel {
        let config = ModelConfig { vocabulary: 1024, d: 16, layers: 1, heads: 2, ff: 32, context: 1024 };
        let weights = initial_weights(&config, seed);
        BaseModel::from_weights(config, &weights)
    }

    /// Takes any tokens and does no work: for benchmarks of what is around the model. Its log-probabilities and samples mean
    /// nothing, but are the same for the same requests.
    pub fn noop() -> BaseModel {
        BaseModel { inner: Arc::new(Inner { config: noop::config(), hash: 0, network: None }) }
    }

    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// Equal weights have equal hashes. A saved adapter names its base by it.
    pub fn hash(&self) -> u64 {
        self.inner.hash
    }

    /// The base without an adapter, for sampling.
    pub fn weights(&self) -> Weights {
        Weights::new(&self.inner.config, self.inner.network.clone())
    }

    pub(crate) fn network(&self) -> Option<&Arc<Network<f32>>> {
        self.inner.network.as_ref()
    }

    fn from_weights(config: ModelConfig, weights: &[f32]) -> BaseModel {
        let network = Network::new(&config, Arc::new(Rotation::new(&config)), weights);
        let hash = bytes::hash_f32(weights);
        BaseModel { inner: Arc::new(Inner { config, hash, network: Some(Arc::new(network)) }) }
    }
}

/// The file of a model, its weights as 16-bit floats.
pub(crate) fn to_bytes(config: &ModelConfig, weights: &[f32]) -> Vec<u8> {
    let mut writer = Writer::new(MAGIC, VERSION);
    let sizes = [config.vocabulary, config.d, config.layers, config.heads, config.ff, config.context];
    for size in sizes {
        writer.u32(u32::try_from(size).expect("a checked config has small sizes"));
    }
    writer.f16s(weights);
    writer.finish()
}
