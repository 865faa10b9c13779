// Long names in tables may be broken between their words.
for (const code of document.querySelectorAll("td code"))
  for (const node of [...code.childNodes].filter(node => node.nodeType === Node.TEXT_NODE)) {
    const words = node.data.split(/(?<=[_./])(?=\w)|(?<=[a-z])(?=[A-Z])/)
    node.replaceWith(...words.flatMap((word, at) => at ? [document.createElement("wbr"), word] : [word]))
  }
