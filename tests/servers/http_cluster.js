// SPDX-License-Identifier: MIT
// A small unmodified server of several processes: node's cluster module.
'use strict';

const cluster = require('cluster');
const http = require('http');

const body = 'the answer that every server under test gives\n';
const workers = 2;

function answer(request, response) {
  response.writeHead(200, { 'Content-Length': body.length });
  response.end(body);
}

if (cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  http.createServer(answer).listen(Number(process.argv[2]), '127.0.0.1');
}
