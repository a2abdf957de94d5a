//! `tailwater schedule`: what is enqueued at the times of a cron expression.

use serde_json::Value;

use super::arguments::schedules::{
    ScheduleCommand, ScheduleDeleteOptions, ScheduleListOptions, ScheduleOptions, SchedulePutOptions,
};
use super::error::CommandError;
use super::input::json_of;
use super::listing;
use super::output::{Output, cell};
use super::patience::patiently;
use crate::client::PutSchedule;

pub(super) async fn schedule(command: &ScheduleCommand, output: &mut Output) -> Result<(), CommandError> {
    match command {
        ScheduleCommand::Put(options) => put(options, output).await,
        ScheduleCommand::List(options) => list(options, output).await,
        ScheduleCommand::Show(options) => show(options, output).await,
        ScheduleCommand::Delete(options) => delete(options).await,
    }
}

async fn put(options: &SchedulePutOptions, output: &mut Output) -> Result<(), CommandError> {
    let id = &options.schedule.id;
    let schedule = PutSchedule {
        stream: options.stream.clone(),
        cron: options.cron.clone(),
        time_zone: options.time_zone.clone(),
        payload: json_of(options.payload.as_deref())?,
        enqueue_as: options.message.then_some("message"),
        misfire: options
            .misfire
            .map(super::arguments::schedules::MisfireChoice::name),
        paused: options.paused,
        start_at: options.start_at.clone(),
        end_at: options.end_at.clone(),
    };
    let client = options.schedule.connection.client()?;
    let made = patiently(async || client.put_schedule(id, &schedule).await).await?;
    let what = if made.is_new {
        "created"
    } else {
        "changed, if it was another one,"
    };
    let next = cell(&made.document["next_fire_at"]);
    eprintln!(
        "{what} the schedule `{id}`; it fires next at {}",
        if next.is_empty() { "no time" } else { &next }
    );
    if options.json {
        output.line(&made.document.to_string())?;
    }
    output.flush()
}

async fn list(options: &ScheduleListOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let page = async |after: Option<&str>| {
        let page = client.schedules(after).await?;
        Ok((page.schedules, page.after))
    };
    let line = |schedule: &Value| match (options.json, options.long) {
        (true, _) => schedule.to_string(),
        (false, true) => long_line(schedule),
        (false, false) => cell(&schedule["id"]),
    };
    listing::print(output, page, line).await
}

fn long_line(schedule: &Value) -> String {
    let cells = [
        &schedule["id"],
        &schedule["stream"],
        &schedule["cron"],
        &schedule["time_zone"],
        &schedule["next_fire_at"],
        &schedule["last_fire"]["at"],
        &schedule["last_error"]["message"],
    ];
    cells.map(cell).join("\t")
}

async fn show(options: &ScheduleOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let schedule = patiently(async || client.schedule(&options.id).await).await?;
    output.line(&schedule.to_string())?;
    output.flush()
}

async fn delete(options: &ScheduleDeleteOptions) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    for id in &options.ids {
        patiently(async || client.delete_schedule(id).await).await?;
        eprintln!("deleted the schedule `{id}`");
    }
    Ok(())
}
