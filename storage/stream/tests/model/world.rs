//! The reference and the driver side by side: gives both the same requests and compares what is to be seen.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::command::{
    Append, AppendPlan, Body, BodyPlan, Command, Create, CreatePlan, Fork, JSON, Life, NAMES, Place,
    ProducerPlan, Request, Step, SubOffset, Twist, TypePlan,
};
use super::driver::Driver;
use super::outcome::{Answer, Outcome, Standing};
use super::reference::Reference;

const START: &str = "0000000000000000_0000000000000000";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) reference: Reference,
    pub(crate) driver: Driver,
    /// Every token that was given out, and by which name.
    issued: Vec<(usize, String)>,
    /// Every request that made a stream.
    creates: Vec<Create>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            reference: Reference::new(),
            driver: Driver::new(),
            issued: Vec::new(),
            creates: Vec::new(),
        }
    }

    /// Gives one command to both and compares all that is to be seen afterwards.
    pub(crate) fn step(&mut self, step: &Step) -> Result<Outcome, TestCaseError> {
        let Some(request) = self.request(&step.command) else {
            return Ok(Outcome::Done);
        };
        let expected = self.reference.handle(&request);
        let outcome = self.driver.handle(&request);
        prop_assert_eq!(&outcome, &expected, "the outcome of {:?}", &request);
        if let (Request::Create(create), Outcome::Created(_)) = (&request, &outcome) {
            self.creates.push(create.clone());
        }
        for name in 0..NAMES {
            self.compare(name, &request)?;
        }
        for probe in &step.probes {
            if !self.issued.is_empty() {
                let offset = probe.get(&self.issued).1.clone();
                self.compare_reads(&offset, &request)?;
            }
        }
        self.compare_reads(START, &request)?;
        Ok(outcome)
    }

    fn compare(&mut self, name: usize, request: &Request) -> TestCaseResult {
        let expected = self.reference.snapshot(name);
        let snapshot = self.driver.snapshot(name);
        prop_assert_eq!(&snapshot, &expected, "stream {} after {:?}", name, request);
        let Standing::Alive(snapshot) = snapshot else {
            return Ok(());
        };
        let ends = (self.driver.end_after_load_ms(name), self.reference.end_ms(name));
        prop_assert!(
            ends.0.is_some() == ends.1.is_some() && ends.0 >= ends.1,
            "stream {} would end early if it were loaded after {:?}: {:?}",
            name,
            request,
            ends
        );
        let Answer::Data { records, .. } = snapshot.readable else {
            return Err(TestCaseError::fail(
                "a stream is readable from its oldest offset on",
            ));
        };
        for token in [snapshot.tail]
            .into_iter()
            .chain(records.into_iter().map(|record| record.1))
        {
            if !self
                .issued
                .iter()
                .any(|(by, issued)| *by == name && *issued == token)
            {
                self.issued.push((name, token));
            }
        }
        Ok(())
    }

    fn compare_reads(&mut self, offset: &str, request: &Request) -> TestCaseResult {
        for name in 0..NAMES {
            let expected = self.reference.read(name, offset);
            let answer = self.driver.read(name, offset);
            prop_assert_eq!(
                answer,
                expected,
                "stream {} read from {} after {:?}",
                name,
                offset,
                request
            );
        }
        Ok(())
    }

    fn request(&self, command: &Command) -> Option<Request> {
        Some(match command {
            Command::Create(plan) => Request::Create(self.create(plan)),
            Command::Repeat { which, twist } => {
                if self.creates.is_empty() {
                    return None;
                }
                let mut create = which.get(&self.creates).clone();
                twisted(&mut create, *twist);
                Request::Create(create)
            }
            Command::Append(plan) => Request::Append(self.append(plan)),
            Command::Delete { name } => Request::Delete { name: *name },
            Command::Trim { name, before } => Request::Trim {
                name: *name,
                before: self.token(*name, before),
            },
            Command::Use { name } => Request::Use { name: *name },
            Command::Wait { ms } => Request::Wait { ms: *ms },
        })
    }

    fn create(&self, plan: &CreatePlan) -> Create {
        let fork = plan.fork.as_ref().map(|fork| {
            let offset = fork.offset.as_ref().map(|place| self.token(fork.source, place));
            let last = self.reference.last_sub_offset(fork.source, offset.as_deref());
            Fork {
                source: fork.source,
                offset,
                sub_offset: match fork.sub_offset {
                    SubOffset::Number(number) => number,
                    SubOffset::Last => last,
                    SubOffset::OnePast => last + 1,
                },
            }
        });
        let source = fork
            .as_ref()
            .and_then(|fork| self.reference.content_type(fork.source));
        let content_type = spelled(plan.content_type, source);
        Create {
            name: plan.name,
            body: body(&plan.body, content_type.as_deref().or(source)),
            content_type,
            lifetime: plan.lifetime,
            closed: plan.closed,
            fork,
        }
    }

    fn append(&self, plan: &AppendPlan) -> Append {
        let stream = self.reference.content_type(plan.name);
        let producer = plan.producer.map(|(id, claim)| {
            let (epoch, seq) = claimed(claim, self.reference.producer(plan.name, id));
            (id.to_owned(), epoch, seq)
        });
        Append {
            name: plan.name,
            content_type: spelled(plan.content_type, stream),
            body: body(&plan.body, stream),
            producer,
            stream_seq: plan.stream_seq.clone(),
            if_match: plan.if_match.as_ref().map(|place| self.token(plan.name, place)),
            closes: plan.closes,
        }
    }

    fn token(&self, name: usize, place: &Place) -> String {
        let here: Vec<&String> = self
            .issued
            .iter()
            .filter(|(by, _)| *by == name)
            .map(|(_, token)| token)
            .collect();
        match place {
            Place::Tail => self.reference.tail(name).unwrap_or(START.to_owned()),
            Place::Issued(which) if !self.issued.is_empty() => which.get(&self.issued).1.clone(),
            Place::IssuedHere(which) if !here.is_empty() => (*which.get(&here)).clone(),
            Place::MadeUp(which, by) if !here.is_empty() => {
                let (owner, position) = which.get(&here).split_at(17);
                let position: u64 = position.parse().expect("sixteen digits");
                format!("{owner}{:016}", position.saturating_add_signed(i64::from(*by)))
            }
            Place::Start | Place::Issued(_) | Place::IssuedHere(_) | Place::MadeUp(..) => START.to_owned(),
        }
    }
}

fn spelled(plan: TypePlan, stream: Option<&str>) -> Option<String> {
    let stream = stream.unwrap_or("text/plain");
    match plan {
        TypePlan::Absent => None,
        TypePlan::Fitting => Some(stream.to_owned()),
        TypePlan::Respelled => Some(respelled(stream)),
        TypePlan::Named(name) => Some(name.to_owned()),
    }
}

fn respelled(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    format!("{} ; q=\"x/y\"", essence.to_uppercase())
}

fn body(plan: &BodyPlan, content_type: Option<&str>) -> Body {
    let is_json = content_type.is_some_and(|text| text.to_lowercase().starts_with(JSON));
    if is_json {
        plan.json.clone()
    } else {
        plan.bytes.clone()
    }
}

fn twisted(create: &mut Create, twist: Twist) {
    match twist {
        Twist::Nothing => {}
        Twist::WithoutContentType => create.content_type = None,
        Twist::RespelledContentType => create.content_type = create.content_type.as_deref().map(respelled),
        Twist::OtherContentType => create.content_type = Some("text/html".to_owned()),
        Twist::OtherClosure => create.closed = !create.closed,
        Twist::OtherLifetime => create.lifetime = Life::TtlSeconds(33),
        Twist::OtherSubOffset => {
            if let Some(fork) = &mut create.fork {
                fork.sub_offset = fork.sub_offset.wrapping_add(1);
            }
        }
        Twist::AsNoFork => create.fork = None,
    }
}

fn claimed(plan: ProducerPlan, known: Option<(u64, u64)>) -> (u64, u64) {
    let (epoch, seq) = known.unwrap_or((0, 0));
    let next = if known.is_some() { seq + 1 } else { 0 };
    match plan {
        ProducerPlan::Next => (epoch, next),
        ProducerPlan::LastAgain => (epoch, seq),
        ProducerPlan::EarlierAgain => (epoch, seq / 2),
        ProducerPlan::Skip => (epoch, next + 1),
        ProducerPlan::OldEpoch => (epoch.saturating_sub(1), next),
        ProducerPlan::NewEpoch => (epoch + 1, 0),
        ProducerPlan::NewEpochTooFar => (epoch + 1, 1),
    }
}
