/**
 * Completion scripts for shells, made from the program's own commands and options, so that they can't differ from them.
 *
 * Words that are no option complete to files (kernels, configs, disks).
 */
import type { Command } from "commander";
import { ConfigError } from "hookvisor";

export const SHELLS = Object.freeze(["bash", "zsh", "fish"]);

interface Described {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly { readonly flag: string; readonly description: string; readonly value: boolean }[];
}

function describe(program: Command): readonly Described[] {
  return program.commands.map((command) => ({
    name: command.name(),
    summary: command.summary() || command.description(),
    options: [
      ...command.options.flatMap((option) =>
        [option.long, option.short]
          .filter((flag) => typeof flag === "string")
          .map((flag) => ({ flag, description: option.description, value: option.required || option.optional })),
      ),
      { flag: "--help", description: "print help", value: false },
    ],
  }));
}

/** The script for one shell. ConfigError for another. */
export function completionScript(program: Command, shell: string): string {
  const commands = describe(program);
  switch (shell) {
    case "bash":
      return bash(commands);
    case "zsh":
      return zsh(commands);
    case "fish":
      return fish(commands);
    default:
      throw new ConfigError(`There is no completion for '${shell}'; the shells are ${SHELLS.join(", ")}.`);
  }
}

function bash(commands: readonly Described[]): string {
  const cases = commands.map((c) => `    ${c.name}) words="${c.options.map((o) => o.flag).join(" ")}" ;;`).join("\n");
  return `# hookvisor completion for bash: source <(hookvisor completion bash)
_hookvisor() {
  local current="\${COMP_WORDS[COMP_CWORD]}" command="\${COMP_WORDS[1]}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map((c) => c.name).join(" ")} --help --version" -- "$current"))
    return
  fi
  case "$command" in
${cases}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _hookvisor hookvisor
`;
}

function zshQuote(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll("[", "(").replaceAll("]", ")").replaceAll(":", " ");
}

function zsh(commands: readonly Described[]): string {
  const cases = commands
    .map((c) => {
      const specs = c.options.map((o) => `'${o.flag}[${zshQuote(o.description)}]${o.value ? ":value:_files" : ""}'`);
      return `    ${c.name}) _arguments ${specs.join(" ")} '*:file:_files' ;;`;
    })
    .join("\n");
  return `#compdef hookvisor
# hookvisor completion for zsh: source <(hookvisor completion zsh)
_hookvisor() {
  local -a commands
  commands=(${commands.map((c) => `'${c.name}:${zshQuote(c.summary)}'`).join(" ")})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local name="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$name" in
${cases}
  esac
}
compdef _hookvisor hookvisor
`;
}

function fish(commands: readonly Described[]): string {
  const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = commands.map(
    (c) => `complete -c hookvisor -n __fish_use_subcommand -f -a ${c.name} -d ${quote(c.summary)}`,
  );
  for (const c of commands)
    for (const o of c.options) {
      const name = o.flag.startsWith("--") ? `-l ${o.flag.slice(2)}` : `-s ${o.flag.slice(1)}`;
      lines.push(
        `complete -c hookvisor -n '__fish_seen_subcommand_from ${c.name}' ${name}${o.value ? " -r" : ""} -d ${quote(o.description)}`,
      );
    }
  return `# hookvisor completion for fish: hookvisor completion fish | source\n${lines.join("\n")}\n`;
}
