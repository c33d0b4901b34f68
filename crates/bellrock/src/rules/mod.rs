//! `bellrock rules`: rule files and their unit tests, without a server.

mod junit;
mod lint;
mod test;

use anyhow::Result;

#[derive(clap::Args, Debug)]
pub(crate) struct RulesArguments {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(clap::Subcommand, Debug)]
enum RulesCommand {
    /// Check rule files: fields, expressions, templates, names, rules that stand twice.
    Lint(lint::LintArguments),
    /// Run unit tests of rules, in promtool's format.
    Test(test::TestArguments),
}

/// The exit code.
pub(crate) fn rules(arguments: RulesArguments) -> Result<i32> {
    match arguments.command {
        RulesCommand::Lint(arguments) => lint::lint(&arguments),
        RulesCommand::Test(arguments) => test::test(&arguments),
    }
}
