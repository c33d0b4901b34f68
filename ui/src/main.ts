import { mount } from 'svelte';
import App from './App.svelte';
import './styles/tokens.css';
import './styles/base.css';

// After an upgrade the old build's files are gone: an open page that asks for one of them starts again, with its state in the URL.
window.addEventListener('vite:preloadError', (event) => {
  const key = 'bellrock.v1.reloaded';
  try {
    if (window.sessionStorage.getItem(key) === window.location.href) return;
    window.sessionStorage.setItem(key, window.location.href);
  } catch {
    return;
  }
  event.preventDefault();
  window.location.reload();
});

const target = document.getElementById('app');
if (target === null) throw new Error('index.html has no #app');
target.replaceChildren();
mount(App, { target });
