//! Batches: which data are next, and the way to get them from the page.

use std::rc::Rc;

use tinkex_protocol::Datum;

use super::order::{Position, permutation};
use super::page::{Ask, Failure, FailureKind, Page, Told};

/// Where data come from, as the run's record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// So many, which can be read anywhere.
    Indexed { length: u32, fingerprint: String },
    /// One after another, and shuffled in a buffer of so many.
    Stream { buffer: u32, fingerprint: Option<String> },
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct Plan {
    pub data: Data,
    pub batch: u32,
    pub shuffle: bool,
    pub seed: u64,
    /// `None`: until something else ends the run.
    pub epochs: Option<u32>,
}

impl Plan {
    /// How many steps there are, where the data and the epochs say it.
    pub fn steps(&self) -> Option<u32> {
        match (&self.data, self.epochs) {
            (Data::Indexed { length, .. }, Some(epochs)) => Some(length.div_ceil(self.batch) * epochs),
            _ => None,
        }
    }

    fn is_over(&self, position: &Position) -> bool {
        self.epochs.is_some_and(|epochs| position.epoch >= epochs)
    }
}

/// One batch.
pub struct Batch {
    pub data: Vec<Datum>,
    /// In front of what comes after it.
    pub after: Position,
}

/// Draws batches. What it holds can be had again from the page.
pub struct Feed {
    plan: Plan,
    page: Rc<dyn Page>,
    block: Option<Block>,
}

struct Block {
    epoch: u32,
    number: u32,
    /// Empty where the order is that of the data.
    order: Vec<u32>,
    /// Of a stream.
    held: Vec<Datum>,
    /// How many there are.
    length: u32,
    /// Where the next block begins; none where the epoch ends.
    next: Option<String>,
}

impl Feed {
    pub fn new(plan: Plan, page: Rc<dyn Page>) -> Feed {
        Feed { plan, page, block: None }
    }

    /// The batch at a position; none where the epochs are over.
    ///
    /// A batch ends with its epoch: the last one may be smaller.
    pub async fn next(mut self, mut position: Position) -> (Feed, Result<Option<Batch>, Failure>) {
        let mut data = Vec::new();
        let mut empty_epochs = 0;
        loop {
            if self.plan.is_over(&position) {
                return (self, Ok(None));
            }
            if let Err(failure) = self.load(&position).await {
                return (self, Err(failure));
            }
            // Loaded just now.
            let Some(block) = &self.block else { continue };
            let until = block.length.min(position.at + self.plan.batch - data.len() as u32);
            match self.draw(position.at, until).await {
                Ok(drawn) => data.extend(drawn),
                Err(failure) => return (self, Err(failure)),
            }
            position.at = until;
            let Some(block) = &self.block else { continue };
            let epoch_ends = until == block.length && block.next.is_none();
            if until == block.length {
                position = match &block.next {
                    Some(cursor) => {
                        Position { block: position.block + 1, at: 0, cursor: cursor.clone(), ..position }
                    }
                    None => position.next_epoch(),
                };
            }
            if data.len() as u32 == self.plan.batch || (epoch_ends && !data.is_empty()) {
                return (self, Ok(Some(Batch { data, after: position })));
            }
            if epoch_ends {
                // A stream may end exactly with a block, and say so only in the next. Twice in a row there is nothing.
                empty_epochs += 1;
                if empty_epochs > 1 {
                    return (self, Err(mismatch("the data have nothing in them")));
                }
            }
        }
    }

    /// Sees to it that the block of a position is here.
    async fn load(&mut self, position: &Position) -> Result<(), Failure> {
        let Position { epoch, block: number, .. } = *position;
        if self.block.as_ref().is_some_and(|block| (block.epoch, block.number) == (epoch, number)) {
            return Ok(());
        }
        let (held, length, next) = match self.plan.data {
            Data::Indexed { length, .. } => (Vec::new(), length, None),
            Data::Stream { buffer, .. } => {
                let cursor = Some(position.cursor.clone()).filter(|cursor| !cursor.is_empty());
                match self.page.ask(Ask::Stream { cursor, count: buffer }).await? {
                    Told::Stream { data, cursors, end } => {
                        let next = cursors.last().filter(|_| !end).cloned();
                        let length = data.len() as u32;
                        (data, length, next)
                    }
                    _ => return Err(mismatch("the page gave something else than the next data")),
                }
            }
        };
        if position.at > length {
            let message = "the stream gives fewer data from its cursor on than it did before";
            return Err(mismatch(message));
        }
        let order = match self.plan.shuffle {
            true => permutation(self.plan.seed, position, length as usize),
            false => Vec::new(),
        };
        self.block = Some(Block { epoch, number, order, held, length, next });
        Ok(())
    }

    /// The data of the block at these places of its order.
    async fn draw(&mut self, from: u32, until: u32) -> Result<Vec<Datum>, Failure> {
        let Some(block) = &self.block else { return Ok(Vec::new()) };
        let rows: Vec<u32> = match block.order.get(from as usize..until as usize) {
            Some(rows) => rows.to_vec(),
            None => (from..until).collect(),
        };
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if let Data::Stream { .. } = self.plan.data {
            return Ok(rows.into_iter().map(|row| block.held[row as usize].clone()).collect());
        }
        let asked = rows.len();
        match self.page.ask(Ask::Rows(rows)).await? {
            Told::Data(data) if data.len() == asked => Ok(data),
            _ => Err(mismatch("the page gave other data than it was asked for")),
        }
    }
}

fn mismatch(message: &str) -> Failure {
    Failure { kind: FailureKind::DataMismatch, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use futures_util::FutureExt;
    use futures_util::future::LocalBoxFuture;
    use tinkex_protocol::ModelInput;

    use super::super::page::News;
    use super::*;

    /// A page whose data are numbers from 0, and which keeps what it was asked for.
    struct Numbers {
        length: u32,
        asked: RefCell<usize>,
    }

    fn datum(number: u32) -> Datum {
        Datum { model_input: ModelInput::from_tokens(vec![number as i32]), ..Datum::default() }
    }

    impl Page for Numbers {
        fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>> {
            *self.asked.borrow_mut() += 1;
            let told = match ask {
                Ask::Rows(rows) => Told::Data(rows.into_iter().map(datum).collect()),
                Ask::Stream { cursor, count } => {
                    let from = cursor.map_or(0, |cursor| cursor.parse().unwrap());
                    let until = self.length.min(from + count);
                    Told::Stream {
                        data: (from..until).map(datum).collect(),
                        cursors: (from..until).map(|row| (row + 1).to_string()).collect(),
                        end: until < from + count,
                    }
                }
                Ask::Step { .. } => unreachable!("a feed asks for data"),
            };
            ready(Ok(told)).boxed_local()
        }

        fn tell(&self, _: News) {}
    }

    fn plan(data: Data) -> Plan {
        Plan { data, batch: 4, shuffle: true, seed: 1, epochs: Some(2) }
    }

    fn indexed() -> Plan {
        plan(Data::Indexed { length: 10, fingerprint: String::new() })
    }

    fn stream(buffer: u32) -> Plan {
        plan(Data::Stream { buffer, fingerprint: None })
    }

    fn feed(plan: &Plan) -> Feed {
        Feed::new(plan.clone(), Rc::new(Numbers { length: 10, asked: RefCell::default() }))
    }

    fn numbers(batch: &Batch) -> Vec<i32> {
        batch.data.iter().flat_map(|datum| datum.model_input.tokens().unwrap_or_default()).collect()
    }

    /// All batches from a position on, each with where it began.
    fn drawn(plan: &Plan, mut position: Position) -> Vec<(Position, Vec<i32>)> {
        let mut feed = feed(plan);
        let mut batches = Vec::new();
        loop {
            let (same, batch) = feed.next(position.clone()).now_or_never().expect("the page answers at once");
            let Some(batch) = batch.expect("the page has data") else { return batches };
            batches.push((position, numbers(&batch)));
            (feed, position) = (same, batch.after);
        }
    }

    #[test]
    fn every_epoch_has_every_datum_once() {
        for plan in [indexed(), stream(3), stream(5), stream(100)] {
            let batches = drawn(&plan, Position::default());
            for epoch in 0..2 {
                let of_it = batches.iter().filter(|(at, _)| at.epoch == epoch);
                let mut all: Vec<i32> = of_it.clone().flat_map(|(_, batch)| batch.clone()).collect();
                all.sort_unstable();
                assert_eq!(all, (0..10).collect::<Vec<_>>(), "{plan:?}");
                assert_eq!(of_it.map(|(_, batch)| batch.len()).collect::<Vec<_>>(), [4, 4, 2]);
            }
            assert_eq!(plan.steps(), matches!(plan.data, Data::Indexed { .. }).then_some(6));
        }
    }

    #[test]
    fn from_any_position_on_the_batches_are_the_same_again() {
        for plan in [indexed(), stream(3), stream(5)] {
            let batches = drawn(&plan, Position::default());
            for (nth, (position, _)) in batches.iter().enumerate() {
                assert_eq!(drawn(&plan, position.clone()), batches[nth..], "{plan:?}");
            }
        }
    }

    #[test]
    fn without_shuffling_the_order_is_that_of_the_data() {
        for plan in [indexed(), stream(3)] {
            let plan = Plan { shuffle: false, epochs: Some(1), ..plan };
            let all: Vec<i32> =
                drawn(&plan, Position::default()).into_iter().flat_map(|(_, batch)| batch).collect();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_stream_without_data_is_an_error_and_no_loop() {
        let plan = Plan { epochs: None, ..stream(3) };
        let page = Rc::new(Numbers { length: 0, asked: RefCell::default() });
        let (_, batch) = Feed::new(plan, page).next(Position::default()).now_or_never().unwrap();
        assert_eq!(batch.err().map(|failure| failure.kind), Some(FailureKind::DataMismatch));
    }
}
