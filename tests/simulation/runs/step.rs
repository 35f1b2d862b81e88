//! The function of a step, as one of reinforcement learning: it draws noise, samples, and trains on both. What it trained on
//! is what it gives, so that it can be trained on again.

use futures_util::future::{join, join3};
use tinkex::platform::plain::Plain;
use tinkex::run::Run;
use tinkex::run::page::{Failure, Recorded, Told};

use super::RunWorld;
use super::work::made;
use crate::given;

/// One attempt at a step.
pub struct Attempt<'a> {
    pub world: &'a RunWorld,
    pub run: &'a Run,
    pub number: u32,
    /// The incarnation and the step.
    pub place: (u32, u32),
    pub recorded: Vec<Recorded>,
    /// It asks for something else than it did before.
    pub otherwise: bool,
}

impl Attempt<'_> {
    /// What came of the step: the number of its rollouts.
    pub async fn run(&self) -> Result<Told, Failure> {
        let noise = self.random();
        self.pause().await;
        let sampler = self.call(1, "sampler", Plain::nothing()).await?;
        let sampler = given::sampler(&sampler);
        let (one, other) = join(self.sample(2, &sampler), self.sample(3, &sampler)).await;
        let number = noise + one? + other?;
        self.pause().await;
        self.train(4, number).await?;
        Ok(Told::Step(Some(number.to_string())))
    }

    /// Trains on rollouts: three calls at a time, from this place on.
    pub async fn train(&self, from: u32, number: u32) -> Result<(), Failure> {
        let pass = |data: &[u32]| given::pass(&data.iter().map(|nth| made(number, *nth)).collect::<Vec<_>>());
        let method = if self.otherwise { "forward" } else { "forwardBackward" };
        let first = self.call(from, method, pass(&[0, 1, 2]));
        let second = self.call(from + 1, "forwardBackward", pass(&[3]));
        let update = self.call(from + 2, "optimStep", Plain::nothing());
        let (first, second, update) = join3(first, second, update).await;
        first.and(second).and(update).map(drop)
    }

    /// Recorded before anything that follows from it.
    fn random(&self) -> u32 {
        let recorded = self.recorded.first().and_then(|first| first.value.as_deref());
        match recorded {
            Some(value) => value.parse().expect("what was recorded is given back"),
            None => {
                let noise = self.world.dice.roll(50) as u32;
                self.run.note(self.number, 0, "random".into(), String::new(), noise.to_string());
                noise
            }
        }
    }

    async fn sample(&self, place: u32, sampler: &str) -> Result<u32, Failure> {
        let sampled = self.call(place, "sample", given::sample(sampler, 2)).await?;
        Ok(given::drawn(&sampled).into_iter().map(|token| token as u32).sum::<u32>() % 500)
    }

    async fn call(&self, place: u32, method: &str, args: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let came = self.run.call(self.number, place, method.into(), args).await;
        let (incarnation, step) = self.place;
        self.world.notes.borrow_mut().heard.insert((incarnation, step, place));
        came.map_err(|failed| given::failure(&failed))
    }

    /// It does something of its own between its calls.
    async fn pause(&self) {
        self.world.runtime.timer(self.world.dice.up_to_ms(50)).await;
    }
}
