/** Imported for its effect: in Node the backend is the native one. */

import { loadNative } from './backend-native.js';
import { provideBackend } from './backend.js';

provideBackend(loadNative);
