/**
 * Completion scripts for shells, made from the program's own commands and options, so that they can't differ from them.
 *
 * Words that are no option complete to files (kernels, configs, disks) and to what plugins provide (images, schedulers).
 */
import type { Command } from "commander";
import { ConfigError } from "hookvisor";

export const SHELLS = Object.freeze(["bash", "zsh", "fish"]);

interface Described {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly { readonly flag: string; readonly description: string; readonly value: boolean }[];
}

/** Words besides commands and options, by command and by option. */
export interface CompletionWords {
  readonly items: Readonly<Record<string, readonly string[]>>;
  readonly values: Readonly<Record<string, readonly string[]>>;
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
export function completionScript(program: Command, shell: string, words: CompletionWords): string {
  const commands = describe(program);
  switch (shell) {
    case "bash":
      return bash(commands, words);
    case "zsh":
      return zsh(commands, words);
    case "fish":
      return fish(commands, words);
    default:
      throw new ConfigError(`There is no completion for '${shell}'; the shells are ${SHELLS.join(", ")}.`);
  }
}

function bash(commands: readonly Described[], { items, values }: CompletionWords): string {
  const cases = commands
    .map((c) => {
      const options = c.options.map((o) => o.flag).join(" ");
      return `    ${c.name}) words="${options}" items="${(items[c.name] ?? []).join(" ")}" ;;`;
    })
    .join("\n");
  const after = Object.entries(values)
    .map(([flag, of]) => `    ${flag}) COMPREPLY=($(compgen -W "${of.join(" ")}" -- "$current")); return ;;`)
    .join("\n");
  return `# hookvisor completion for bash: source <(hookvisor completion bash)
_hookvisor() {
  local current="\${COMP_WORDS[COMP_CWORD]}" command="\${COMP_WORDS[1]}" words="" items=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map((c) => c.name).join(" ")} --help --version" -- "$current"))
    return
  fi
  case "$command" in
${cases}
  esac
  case "\${COMP_WORDS[COMP_CWORD - 1]}" in
${after}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$items" -- "$current") $(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _hookvisor hookvisor
`;
}

function zshQuote(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll("[", "(").replaceAll("]", ")").replaceAll(":", " ");
}

function zsh(commands: readonly Described[], { items, values }: CompletionWords): string {
  const cases = commands
    .map((c) => {
      const value = (flag: string): string => {
        const of = values[flag];
        return of === undefined ? ":value:_files" : `:value:(${of.join(" ")})`;
      };
      const specs = c.options.map((o) => `'${o.flag}[${zshQuote(o.description)}]${o.value ? value(o.flag) : ""}'`);
      const rest = items[c.name] === undefined ? "_files" : `_hookvisor_items_${c.name}`;
      return `    ${c.name}) _arguments ${specs.join(" ")} '*:item:${rest}' ;;`;
    })
    .join("\n");
  const lists = Object.entries(items)
    .map(
      ([name, of]) => `_hookvisor_items_${name}() { _alternative 'words:word:(${of.join(" ")})' 'files:file:_files' }`,
    )
    .join("\n");
  return `#compdef hookvisor
# hookvisor completion for zsh: source <(hookvisor completion zsh)
${lists}
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

function fish(commands: readonly Described[], { items, values }: CompletionWords): string {
  const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = commands.map(
    (c) => `complete -c hookvisor -n __fish_use_subcommand -f -a ${c.name} -d ${quote(c.summary)}`,
  );
  for (const c of commands)
    for (const o of c.options) {
      const name = o.flag.startsWith("--") ? `-l ${o.flag.slice(2)}` : `-s ${o.flag.slice(1)}`;
      lines.push(
        `complete -c hookvisor -n '__fish_seen_subcommand_from ${c.name}' ${name}${o.value ? " -r" : ""}${values[o.flag] === undefined ? "" : ` -f -a ${quote(values[o.flag]!.join(" "))}`} -d ${quote(o.description)}`,
      );
    }
  for (const [command, of] of Object.entries(items))
    lines.push(`complete -c hookvisor -n '__fish_seen_subcommand_from ${command}' -a ${quote(of.join(" "))}`);
  return `# hookvisor completion for fish: hookvisor completion fish | source\n${lines.join("\n")}\n`;
}
