//! The texts of reports.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn format_log_1() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.child("any_id"));
    let line = |report: Report| report.to_string();
    assert_eq!(line(world.reports.borrow()[0].clone()), "sup_test: started any_id");
    let slow = Report::SlowPoll { process: pid.clone(), took: ms(60) };
    assert_eq!(line(slow), "any_id held the thread for 60 ms");
    let suspended = Report::Suspended { asked: ms(10), took: ms(60) };
    assert_eq!(line(suspended), "a timer of 10 ms took 60 ms: suspended");
    let contained = Report::Contained { process: "s".into(), reason: abnormal() };
    assert_eq!(line(contained), "s: contained abnormal");
    let task = Report::TaskExited { supervisor: "s".into(), pid, reason: abnormal() };
    assert_eq!(line(task), "s: any_id: abnormal");
}

#[test]
fn format_log_2() {
    let line = |context| {
        let report = Report::Supervisor {
            supervisor: "my_supervisor".into(),
            context,
            reason: abnormal(),
            offender: "any_id".into(),
        };
        report.to_string()
    };
    assert_eq!(line(ReportContext::ShutdownError), "my_supervisor: shutdown_error of any_id: abnormal");
    assert_eq!(line(ReportContext::StartError), "my_supervisor: start_error of any_id: abnormal");
    assert_eq!(line(ReportContext::ChildTerminated), "my_supervisor: child_terminated of any_id: abnormal");
    assert_eq!(line(ReportContext::Shutdown), "my_supervisor: shutdown of any_id: abnormal");
}
