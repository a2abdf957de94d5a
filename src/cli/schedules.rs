//! `tailwater schedule`: what is enqueued at the times of a cron expression.

use super::arguments::schedules::{
    ScheduleCommand, ScheduleDeleteOptions, ScheduleListOptions, ScheduleOptions, SchedulePutOptions,
};
use super::error::CommandError;
use super::input::json_of;
use super::listing;
use super::output::{Output, cell_of};
use super::patience::patiently;
use crate::client::{PutSchedule, ShownSchedule};

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
    let next = made.document.facts.next_fire_at.as_deref();
    eprintln!(
        "{what} the schedule `{id}`; it fires next at {}",
        next.map_or_else(|| "no time".to_owned(), cell_of)
    );
    if options.json {
        output.line(made.document.json.get())?;
    }
    output.flush()
}

async fn list(options: &ScheduleListOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let page = async |after: Option<&str>| {
        let page = client.schedules(after).await?;
        Ok((page.schedules, page.after))
    };
    let line = |schedule: &ShownSchedule| match (options.json, options.long) {
        (true, _) => schedule.json.get().to_owned(),
        (false, true) => long_line(schedule),
        (false, false) => cell_of(&schedule.facts.id),
    };
    listing::print(output, page, line).await
}

fn long_line(schedule: &ShownSchedule) -> String {
    let facts = &schedule.facts;
    let last_fire = facts.last_fire.as_ref().map(|last| last.at.as_str());
    let last_error = facts.last_error.as_ref().map(|last| last.message.as_str());
    let cells: [&str; 7] = [
        &facts.id,
        &facts.stream,
        &facts.cron,
        &facts.time_zone,
        facts.next_fire_at.as_deref().unwrap_or_default(),
        last_fire.unwrap_or_default(),
        last_error.unwrap_or_default(),
    ];
    cells.map(cell_of).join("\t")
}

async fn show(options: &ScheduleOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let schedule = patiently(async || client.schedule(&options.id).await).await?;
    output.line(schedule.json.get())?;
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
