use std::ffi::OsString;

use clap::CommandFactory as _;

use super::{Arguments, Command, SubCommand, View};

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = std::iter::once("tailwater").chain(line.split_whitespace());
    Arguments::read(words.map(OsString::from))
}

#[test]
fn the_definitions_agree_with_each_other() {
    Arguments::command().debug_assert();
}

#[test]
fn the_servers_options_work_with_and_without_its_command() {
    let bare = parse("--bind 0.0.0.0:1 --set a.b=c=d --set x.y=").expect("options of serve");
    assert!(bare.command.is_none());
    assert_eq!(bare.serve.bind.as_deref(), Some("0.0.0.0:1"));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(bare.serve.set, [pair("a.b", "c=d"), pair("x.y", "")]);
    let serve = parse("serve --storage-mode file-fast --data-dir /srv/streams")
        .expect("options of serve")
        .command;
    let Some(Command::Serve(options)) = serve else {
        panic!("{serve:?}")
    };
    assert_eq!(
        (options.storage_mode.as_deref(), options.data_dir.as_deref()),
        (Some("file-fast"), Some("/srv/streams"))
    );
    assert!(
        parse("--bind 0.0.0.0:1 ls").is_err(),
        "the server's options mean nothing to other commands"
    );
    assert!(parse("--set limits").is_err());
}

#[test]
fn offsets_may_begin_with_a_hyphen() {
    let Some(Command::Tail(options)) = parse("tail x --offset -1 --records").expect("a command").command
    else {
        panic!("not tail");
    };
    assert_eq!((options.offset.as_str(), options.view()), ("-1", View::Records));
    assert!(parse("create x --from y --at -1").is_ok());
}

#[test]
fn combinations_without_a_meaning_are_refused() {
    for line in [
        "append x data --follow",
        "append x --producer p",
        "append x --newline",
        "append x --json --content-type text/plain",
        "create x --at 1",
        "ls -l --json",
        "rm",
        "read",
        "sub",
        "sub create s --pattern x",
        "sub create s --webhook https://a.example/",
        "sub create s --pattern x --webhook https://a.example/ --wake-stream w",
        "sub list -l --json",
        "sub delete",
        "sub add s",
        "sub claim s",
        "sub ack s --ack x=1 --all",
        "sub ack s --ack x",
        "sub ack s --ack =1",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(
        Arguments::read(["tailwater", "read", ""].map(OsString::from)).is_err(),
        "an empty name"
    );
}

#[test]
fn every_command_has_an_example() {
    let arguments = Arguments::command();
    let commands = arguments.get_subcommands();
    for command in commands.flat_map(|command| std::iter::once(command).chain(command.get_subcommands())) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            help.contains("tailwater ") && help.contains(command.get_name()),
            "{}",
            command.get_name()
        );
    }
}

#[test]
fn a_number_of_shards_is_one_of_those_that_the_server_takes() {
    let Some(Command::Reshard(options)) = parse("reshard --data-dir d --to 64 --json")
        .expect("a command")
        .command
    else {
        panic!("not reshard");
    };
    assert!((options.to, options.store.json) == (64, true));
    for wrong in ["0", "3", "512", "-1", "many", ""] {
        let line = ["tailwater", "reshard", "--data-dir", "d", "--to", wrong];
        let refused = Arguments::read(line.map(OsString::from))
            .expect_err("no number of shards")
            .to_string();
        assert!(
            wrong == "-1" || refused.contains("one of 1, 2, 4, 8, 16, 32, 64, 128, 256"),
            "{refused}"
        );
    }
    assert!(parse("reshard --data-dir d").is_err(), "it says how many");
}

#[test]
fn an_ack_names_a_stream_whose_name_may_have_an_equals_sign() {
    let command = parse("sub ack s --ack a=b=0_1 --ack c=0_2 --done")
        .expect("a command")
        .command;
    let Some(Command::Sub(SubCommand::Ack(options))) = command else {
        panic!("not ack");
    };
    let ack = |stream: &str, offset: &str| (stream.to_owned(), offset.to_owned());
    assert_eq!(options.acks, [ack("a=b", "0_1"), ack("c", "0_2")]);
    assert!(options.done && !options.all);
}
