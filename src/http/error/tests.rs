//! What is told of refusals that no request to a server of these tests meets.

use http::StatusCode;
use tailwater_storage::engine::{AppendError, DeleteError, TrimError};
use tailwater_storage::queues::QueueError;
use tailwater_storage::stream::{
    AppendRefusal, DeleteRefusal, Epoch, LeaseRefusal, NameLimits, Position, StreamName, TrimRefusal,
};

use super::Problem;

#[test]
fn whoever_may_not_append_to_a_run_is_told_why_and_what_to_do() {
    let epoch = |number| Epoch::new(number).expect("an epoch");
    let (current, claimed) = (epoch(3), epoch(5));
    for (refusal, words) in [
        (LeaseRefusal::NotTheLease, ["`lease`", "Claim the job"]),
        (LeaseRefusal::NotLeased, ["Nobody holds", "claim the job again"]),
        (
            LeaseRefusal::NotGiven { current, claimed },
            ["epoch 3", "your own claim"],
        ),
        (LeaseRefusal::Closes, ["Only the server", "Stream-Closed"]),
    ] {
        let problem = Problem::from(AppendError::Refused(AppendRefusal::Lease(refusal)));
        assert_eq!(
            (problem.0.status, problem.code()),
            (StatusCode::FORBIDDEN, "run_lease")
        );
        for words in words {
            assert!(
                problem.detail().contains(words),
                "{words} in {}",
                problem.detail()
            );
        }
    }
}

#[test]
fn a_worker_whose_event_has_a_type_of_the_servers_own_is_told_which() {
    let refusal = LeaseRefusal::Reserved {
        nth: 2,
        kind: "run.dead".into(),
    };
    let problem = Problem::from(AppendError::Refused(AppendRefusal::Lease(refusal)));
    assert_eq!(
        (problem.0.status, problem.code()),
        (StatusCode::BAD_REQUEST, "reserved_event_type")
    );
    for words in ["Event 2", "\"run.dead\"", "Name it otherwise"] {
        assert!(
            problem.detail().contains(words),
            "{words} in {}",
            problem.detail()
        );
    }
}

#[test]
fn whoever_enqueues_a_job_that_has_no_run_yet_is_told_how_to_find_out() {
    let name = |text| StreamName::parse(text, NameLimits::default()).expect("a name");
    let problem = Problem::from(QueueError::Undecided {
        job: Position::new(44).expect("a position"),
        run: name("runs/jobs/x"),
    });
    assert_eq!(
        (problem.0.status, problem.code()),
        (StatusCode::SERVICE_UNAVAILABLE, "job_undecided")
    );
    assert_eq!(problem.0.facts["job"], "0000000000000044");
    assert_eq!(problem.0.facts["run"], "runs/jobs/x");
    for words in [
        "0000000000000044",
        "`runs/jobs/x` has not begun",
        "Do not send it as another job",
        "Idempotency-Key",
    ] {
        assert!(
            problem.detail().contains(words),
            "{words} in {}",
            problem.detail()
        );
    }
    assert!(problem.into_response().headers().contains_key("retry-after"));
}

#[test]
fn an_open_run_is_neither_deleted_nor_trimmed() {
    for problem in [
        Problem::from(DeleteError::Refused(DeleteRefusal::OpenRun)),
        Problem::from(TrimError::Refused(TrimRefusal::OpenRun)),
    ] {
        assert_eq!(
            (problem.0.status, problem.code()),
            (StatusCode::CONFLICT, "run_open")
        );
        assert!(
            problem.detail().contains("cancel it first"),
            "{}",
            problem.detail()
        );
    }
}
