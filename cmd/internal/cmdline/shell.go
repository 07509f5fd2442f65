package cmdline

import (
	"fmt"
	"io"
	"strings"
)

// Completion writes what a shell needs to complete command lines of program.
// The scripts know nothing of the program but how to ask it.
func Completion(w io.Writer, shell, program string) error {
	text, known := stubs[shell]
	if !known {
		return Usagef("no completion for shell %q", shell)
	}
	function := strings.ReplaceAll(program, "-", "_")
	r := strings.NewReplacer("PROGRAM", program, "FUNCTION", function, "ASK", completeCommand)
	if _, err := io.WriteString(w, r.Replace(text)); err != nil {
		return fmt.Errorf("cannot write the completion: %w", err)
	}
	return nil
}

var stubs = map[string]string{
	"bash": `# bash completion for PROGRAM. Load it with: source <(PROGRAM completion bash)
_FUNCTION() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$(printf '%q' "${line%%$'\t'*}")")
    done < <("${COMP_WORDS[0]}" ASK "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
# Where the program has nothing to offer, the shell offers files.
complete -o default -F _FUNCTION PROGRAM
`,
	"zsh": `#compdef PROGRAM
# zsh completion for PROGRAM. Load it with: source <(PROGRAM completion zsh)
_FUNCTION() {
    local line value
    local -a found
    for line in "${(@f)$("${words[1]}" ASK "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -z $line ]] && continue
        value=${line%%$'\t'*}
        if [[ $line == *$'\t'* ]]; then
            found+=("${value//:/\\:}:${line#*$'\t'}")
        else
            found+=("${value//:/\\:}")
        fi
    done
    _describe -V PROGRAM found
}
# Found in fpath, this file is the function itself, called by the first tab.
if [[ ${funcstack[1]} == _FUNCTION ]]; then
    _FUNCTION "$@"
else
    compdef _FUNCTION PROGRAM
fi
`,
	"fish": `# fish completion for PROGRAM. Load it with: PROGRAM completion fish | source
function __FUNCTION_complete
    set -l words (commandline -opc) (commandline -ct)
    command $words[1] ASK $words[2..-1] 2>/dev/null
end
complete -c PROGRAM -f -a '(__FUNCTION_complete)'
`,
}
