//! How many requests a running sandbox answers in a second, with the model that does no work.
//!
//! `cargo run --release -p tinkex-sandbox --example bench_requests -- 127.0.0.1:8123 [REQUESTS] [CONNECTIONS]`

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tinkex_sandbox::NOOP;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One connection that is kept, on which a request waits for the answer before.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn post(&mut self, path: &str, body: &Value) -> Outcome<Value> {
        let body = body.to_string();
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: sandbox\r\nX-API-Key: tml-bench\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        self.0.read_line(&mut status)?;
        while self.0.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer)?;
        if !status.contains(" 200 ") {
            return Err(format!("{path}: {} {}", status.trim(), String::from_utf8_lossy(&answer)).into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// Steps of one model on one connection, each submitted and then polled. The time of each of the two.
fn steps(address: &str, requests: u64) -> Outcome<Vec<Duration>> {
    let mut connection = Connection::open(address)?;
    let session =
        connection.post("create_session", &json!({ "sdk_version": "bench" }))?["session_id"].clone();
    let model =
        json!({ "session_id": session, "model_seq_id": 0, "base_model": NOOP, "lora_config": { "rank": 4 } });
    let model = connection.post("create_model", &model)?["model_id"].clone();
    let mut times = Vec::new();
    for seq in 1..=requests / 2 {
        let begun = Instant::now();
        let step = json!({ "model_id": model, "seq_id": seq, "adam_params": { "learning_rate": 1e-4 } });
        let request = connection.post("optim_step", &step)?["request_id"].clone();
        times.push(begun.elapsed());
        let begun = Instant::now();
        connection.post("retrieve_future", &json!({ "request_id": request }))?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("say where the sandbox listens: 127.0.0.1:8123")?;
    let requests: u64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let connections: u64 = arguments.next().map_or(Ok(4), |text| text.parse())?.max(1);
    let begun = Instant::now();
    let each: Vec<Outcome<Vec<Duration>>> = std::thread::scope(|scope| {
        let start = |_| scope.spawn(|| steps(&address, requests / connections));
        let threads: Vec<_> = (0..connections).map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
        };
        threads.into_iter().map(join).collect()
    });
    let elapsed = begun.elapsed();
    let mut times: Vec<Duration> =
        each.into_iter().collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect();
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{:.0} requests/s on {connections} connections; p50 {:.2?}, p99 {:.2?} of {} requests",
        times.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        times.len()
    );
    Ok(())
}
