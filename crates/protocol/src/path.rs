//! `tinker://` paths: which run, which kind of checkpoint, which name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, ModelId};

/// `tinker://{training run}/{weights|sampler_weights|external_weights}/{name}`, always of exactly these three parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TinkerPath {
    run: ModelId,
    kind: CheckpointType,
    name: String,
}

/// What a checkpoint can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointType {
    /// Training goes on from it.
    Training,
    /// Samples are drawn from it.
    Sampler,
    /// It was exported for use elsewhere.
    External,
}

impl CheckpointType {
    /// How it stands in a path.
    pub fn folder(self) -> &'static str {
        match self {
            CheckpointType::Training => "weights",
            CheckpointType::Sampler => "sampler_weights",
            CheckpointType::External => "external_weights",
        }
    }

    fn from_folder(folder: &str) -> Option<CheckpointType> {
        [CheckpointType::Training, CheckpointType::Sampler, CheckpointType::External]
            .into_iter()
            .find(|kind| kind.folder() == folder)
    }
}

impl TinkerPath {
    /// Refuses an empty run or name, and a slash in either.
    pub fn new(run: ModelId, kind: CheckpointType, name: impl Into<String>) -> Result<TinkerPath, Error> {
        let name = name.into();
        for (part, text) in [("training run", run.as_str()), ("name", &name)] {
            if text.is_empty() || text.contains('/') {
                let problem =
                    format!("a checkpoint's {part} must be text without a slash, and was \"{text}\"");
                return Err(Error::field("path", problem));
            }
        }
        Ok(TinkerPath { run, kind, name })
    }

    /// The training run, which is also the id of the model that was trained in it.
    pub fn run(&self) -> &ModelId {
        &self.run
    }

    pub fn kind(&self) -> CheckpointType {
        self.kind
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `weights/NAME` and so on: the part of a URL that names the checkpoint in its run, slash unescaped.
    pub fn checkpoint_id(&self) -> String {
        format!("{}/{}", self.kind.folder(), self.name)
    }

    /// The checkpoint that `checkpoint_id` names in a run.
    pub fn from_checkpoint_id(run: ModelId, checkpoint_id: &str) -> Result<TinkerPath, Error> {
        format!("tinker://{run}/{checkpoint_id}").parse()
    }
}

impl fmt::Display for TinkerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tinker://{}/{}/{}", self.run, self.kind.folder(), self.name)
    }
}

impl FromStr for TinkerPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<TinkerPath, Error> {
        let refused = || {
            let form = "tinker://RUN/weights/NAME (or sampler_weights, external_weights)";
            Error::field("path", format!("\"{text}\" is not of the form {form}"))
        };
        let parts = || {
            let (run, rest) = text.strip_prefix("tinker://")?.split_once('/')?;
            let (folder, name) = rest.split_once('/')?;
            Some((run, CheckpointType::from_folder(folder)?, name))
        };
        let (run, kind, name) = parts().ok_or_else(refused)?;
        TinkerPath::new(ModelId::from(run), kind, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for text in [
            "tinker://model_1/weights/a",
            "tinker://m:train:0/sampler_weights/b-2",
            "tinker://r/external_weights/x",
        ] {
            assert_eq!(text.parse::<TinkerPath>().expect("a path").to_string(), text);
        }
        let path: TinkerPath = "tinker://r/sampler_weights/x".parse().expect("a path");
        assert_eq!(
            (path.kind(), path.checkpoint_id()),
            (CheckpointType::Sampler, "sampler_weights/x".into())
        );
        assert_eq!(TinkerPath::from_checkpoint_id("r".into(), "sampler_weights/x"), Ok(path));
    }

    #[test]
    fn a_path_of_another_form_is_refused_and_the_message_shows_the_form() {
        for text in [
            "",
            "weights/x",
            "tinker://r/x",
            "tinker://r/other/x",
            "tinker://r/weights/x/y",
            "tinker:///weights/x",
            "tinker://r/weights/",
        ] {
            let error = text.parse::<TinkerPath>().expect_err(text);
            assert!(
                error.to_string().contains("tinker://") || error.to_string().contains("slash"),
                "{error}"
            );
        }
    }
}
