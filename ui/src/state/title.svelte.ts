/** The tab's name. */
export function title(text: () => string): void {
  $effect(() => {
    const name = text();
    document.title = name === '' ? 'Bellrock' : `${name} · Bellrock`;
  });
}
