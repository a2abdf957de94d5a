//! What `verify` has found, and how it is told. Compares nothing.

use std::fmt;
use std::process::ExitCode;

use crate::postgres::Error;
use crate::postgres::survey::Differences;
use crate::route::{Extent, Routes};

/// Of a run in which nothing is wrong, but something could not be compared.
const NOT_ALL_COMPARED: u8 = 3;

/// What was found in all streams.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Streams and events that are in `tailwater.events`.
    streams: u64,
    events: u64,
    differences: Differences,
    routes: Vec<OfRoute>,
    /// Streams that the mirror knows and the source has no more.
    pub(super) gone: u64,
    trimmed: u64,
    has_moved: bool,
}

/// What was found in one stream.
#[derive(Debug, Default)]
pub(super) struct OfStream {
    /// Whether its events are in `tailwater.events`.
    pub(super) keeps_events: bool,
    /// The number of its route.
    pub(super) route: Option<usize>,
    pub(super) events: u64,
    /// In `tailwater.events`.
    pub(super) differences: Differences,
    /// In the table of its route.
    pub(super) of_route: Differences,
    /// Whether rows of its route were written over while they were compared, so that they say nothing.
    pub(super) has_moved: bool,
    /// Whether the source has only the end of it.
    pub(super) is_trimmed: bool,
}

#[derive(Debug)]
struct OfRoute {
    name: String,
    table: String,
    extent: Extent,
    streams: u64,
    events: u64,
    differences: Differences,
    /// Why its table cannot be compared.
    problem: Option<String>,
}

impl Findings {
    pub(super) fn of(routes: &Routes) -> Self {
        let routes = routes.iter().map(|route| OfRoute {
            name: route.name.clone(),
            table: route.table.to_string(),
            extent: route.extent(),
            streams: 0,
            events: 0,
            differences: Differences::default(),
            problem: None,
        });
        Self {
            routes: routes.collect(),
            ..Self::default()
        }
    }

    /// Whether nothing keeps the table of that route from being compared.
    pub(super) fn can_compare(&self, route: usize) -> bool {
        self.routes[route].problem.is_none()
    }

    pub(super) fn cannot_compare(&mut self, route: usize, error: &Error) {
        self.routes[route].problem = Some(error.to_string());
    }

    /// Adds what was found in a stream, and tells what is wrong there, line by line.
    pub(super) fn add(&mut self, name: &str, found: &OfStream) -> String {
        let mut told = String::new();
        if found.keeps_events {
            self.streams += 1;
            self.events += found.events;
            self.differences += found.differences;
            if !found.differences.is_none() {
                told += &format!("{name}: {}\n", found.differences);
            }
        }
        self.trimmed += u64::from(found.is_trimmed);
        let Some(route) = found.route.map(|number| &mut self.routes[number]) else {
            return told;
        };
        if route.problem.is_some() {
            return told;
        }
        if found.has_moved {
            self.has_moved = true;
            let route = &route.name;
            return told + &format!("{name}: route `{route}`: not compared, since it is being written\n");
        }
        route.streams += 1;
        route.events += found.events;
        route.differences += found.of_route;
        if !found.of_route.is_none() {
            told += &format!("{name}: route `{}`: {}\n", route.name, found.of_route);
        }
        told
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.is_different() {
            ExitCode::FAILURE
        } else if self.has_moved || self.routes.iter().any(|route| route.problem.is_some()) {
            ExitCode::from(NOT_ALL_COMPARED)
        } else {
            ExitCode::SUCCESS
        }
    }

    fn is_different(&self) -> bool {
        let of_routes = self.routes.iter().map(|route| &route.differences);
        of_routes
            .chain([&self.differences])
            .any(|differences| !differences.is_none())
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            missing,
            extra,
            different,
        } = self;
        write!(
            f,
            "{missing} missing, {extra} without an event, {different} different"
        )
    }
}

impl fmt::Display for OfRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            table,
            extent,
            streams,
            events,
            differences,
            problem,
        } = self;
        if let Some(problem) = problem {
            return writeln!(f, "route `{name}`: {table} is NOT compared: {problem}");
        }
        let verdict = verdict(differences);
        writeln!(
            f,
            "route `{name}`: {events} events of {streams} streams compared with {table} {extent}: they are {verdict}"
        )
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            streams,
            events,
            gone,
            trimmed,
            ..
        } = self;
        if *gone > 0 {
            writeln!(f, "{gone} streams are not compared: the source has them no more")?;
        }
        if *trimmed > 0 {
            writeln!(
                f,
                "{trimmed} streams are compared from where the source still has them"
            )?;
        }
        let verdict = verdict(&self.differences);
        writeln!(
            f,
            "{events} events of {streams} streams compared: they are {verdict}"
        )?;
        for route in self
            .routes
            .iter()
            .filter(|route| route.streams > 0 || route.problem.is_some())
        {
            route.fmt(f)?;
        }
        Ok(())
    }
}

fn verdict(differences: &Differences) -> &'static str {
    if differences.is_none() {
        "as they are in the streams"
    } else {
        "NOT as they are in the streams"
    }
}
